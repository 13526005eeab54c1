// Each element is a byte of flags, the changes of id, time, block and offset as zigzag varints, and
// segment and key only where they are needed. An element never spans two blocks; blocks grow from
// small to 4 kB, and a block is freed as soon as it has been read.

#include "core/message_queue.hpp"

#include <algorithm>
#include <array>

namespace herald::core {

namespace {

constexpr std::uint8_t kNewSegment = 1;  // a segment byte follows
constexpr std::uint8_t kHasKey = 2;      // four bytes of key hash follow

constexpr std::size_t kSmallestBlock = 64;
constexpr std::size_t kLargestBlock = 4096;
// Flags, segment, key hash, and four varints of at most ten bytes.
constexpr std::size_t kLongestElement = 1 + 1 + 4 + 4 * 10;
static_assert(kLongestElement <= kSmallestBlock);

// Differences wrap around in unsigned arithmetic, so even the extremes of the types survive.
std::uint8_t *PutDifference(std::uint8_t *out, std::uint64_t from, std::uint64_t to) {
    const std::uint64_t difference = to - from;
    std::uint64_t rest = (difference << 1) ^ (difference >> 63 ? ~std::uint64_t{0} : 0);
    for (; rest >= 0x80; rest >>= 7) *out++ = static_cast<std::uint8_t>(rest | 0x80);
    *out++ = static_cast<std::uint8_t>(rest);
    return out;
}

std::uint64_t AddDifference(const std::uint8_t *&in, std::uint64_t from) {
    std::uint64_t rest = 0;
    for (int shift = 0;; shift += 7) {
        const std::uint8_t byte = *in++;
        rest |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) break;
    }
    return from + ((rest >> 1) ^ (rest & 1 ? ~std::uint64_t{0} : 0));
}

}  // namespace

void MessageQueue::PushBack(const MessageRef &message) {
    if (size_ == 0) {
        front_ = back_ = message;
        size_ = 1;
        return;
    }

    std::array<std::uint8_t, kLongestElement> bytes;
    std::uint8_t *out = bytes.data() + 1;
    bytes[0] = 0;
    if (message.segment != back_.segment) {
        bytes[0] |= kNewSegment;
        *out++ = message.segment;
    }
    if (message.key_hash != 0) {
        bytes[0] |= kHasKey;
        for (int shift = 0; shift < 32; shift += 8) *out++ = static_cast<std::uint8_t>(message.key_hash >> shift);
    }
    out = PutDifference(out, static_cast<std::uint64_t>(back_.id), static_cast<std::uint64_t>(message.id));
    out = PutDifference(out, static_cast<std::uint64_t>(back_.published_at),
                        static_cast<std::uint64_t>(message.published_at));
    out = PutDifference(out, back_.block, message.block);
    out = PutDifference(out, back_.offset, message.offset);

    const auto length = static_cast<std::size_t>(out - bytes.data());
    if (blocks_.empty() || blocks_.back().capacity() - blocks_.back().size() < length) {
        const std::size_t capacity =
            blocks_.empty() ? kSmallestBlock : std::min(2 * blocks_.back().capacity(), kLargestBlock);
        Block block;
        block.reserve(capacity);
        blocks_.push_back(std::move(block));
    }
    blocks_.back().insert(blocks_.back().end(), bytes.data(), out);
    back_ = message;
    ++size_;
}

void MessageQueue::PopFront() {
    if (--size_ == 0) {
        blocks_.clear();
        read_ = 0;
        return;
    }
    if (read_ == blocks_.front().size()) {
        blocks_.pop_front();
        read_ = 0;
    }

    const std::uint8_t *const start = blocks_.front().data();
    const std::uint8_t *in = start + read_;
    const std::uint8_t flags = *in++;
    if (flags & kNewSegment) front_.segment = *in++;
    front_.key_hash = 0;
    if (flags & kHasKey) {
        for (int shift = 0; shift < 32; shift += 8) front_.key_hash |= static_cast<std::uint32_t>(*in++) << shift;
    }
    front_.id = static_cast<MessageId>(AddDifference(in, static_cast<std::uint64_t>(front_.id)));
    front_.published_at = static_cast<Microseconds>(AddDifference(in, static_cast<std::uint64_t>(front_.published_at)));
    front_.block = static_cast<std::uint32_t>(AddDifference(in, front_.block));
    front_.offset = static_cast<std::uint16_t>(AddDifference(in, front_.offset));
    read_ = static_cast<std::size_t>(in - start);
}

std::size_t MessageQueue::MemoryBytes() const {
    std::size_t bytes = sizeof(*this);
    for (const Block &block : blocks_) bytes += block.capacity() + sizeof(Block) + 2 * sizeof(void *);
    return bytes;
}

}  // namespace herald::core
