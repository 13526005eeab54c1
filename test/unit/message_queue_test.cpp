// The packed queue: what goes in comes out, bit by bit, and small neighbours stay small.

#include "core/message_queue.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <limits>
#include <random>

namespace herald::core {
namespace {

void ExpectSame(const MessageRef &got, const MessageRef &wanted) {
    ASSERT_EQ(got.id, wanted.id);
    ASSERT_EQ(got.published_at, wanted.published_at);
    ASSERT_EQ(got.block, wanted.block);
    ASSERT_EQ(got.offset, wanted.offset);
    ASSERT_EQ(got.segment, wanted.segment);
    ASSERT_EQ(got.key_hash, wanted.key_hash);
}

TEST(MessageQueue, KeepsExtremes) {
    constexpr auto kLeast = std::numeric_limits<std::int64_t>::min();
    constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
    const MessageRef extremes[] = {
        {kLeast, kMost, 0, 0xffff, 0, 0xffffffff},  {kMost, kLeast, 0xffffffff, 0, 255, 0}, {-1, 0, 0, 1, 255, 1},
        {0, -1, 0xffffffff, 0xffff, 2, 0x80000000}, {kLeast, kLeast, 1, 0, 2, 0},
    };
    MessageQueue queue;
    for (const MessageRef &message : extremes) queue.PushBack(message);
    EXPECT_EQ(queue.Size(), 5u);
    for (const MessageRef &message : extremes) {
        ExpectSame(queue.Front(), message);
        queue.PopFront();
    }
    EXPECT_TRUE(queue.Empty());
}

TEST(MessageQueue, AgreesWithADeque) {
    std::mt19937_64 random(11);
    for (int episode = 0; episode < 20; ++episode) {
        MessageQueue queue;
        std::deque<MessageRef> model;
        for (int step = 0; step < 5000; ++step) {
            // Phases of growing and of draining, so that it is often empty and often long.
            const std::uint64_t pushes = step / 500 % 2 ? 3 : 6;
            if (random() % 9 < pushes) {
                const bool wild = random() % 16 == 0;
                const MessageRef message{
                    static_cast<MessageId>(wild ? random() : static_cast<std::uint64_t>(step)),
                    static_cast<Microseconds>(wild ? random() : random() % 1000),
                    static_cast<std::uint32_t>(wild ? random() : static_cast<std::uint64_t>(step) / 50),
                    static_cast<std::uint16_t>(random() % 200),
                    static_cast<std::uint8_t>(random() % 4 ? 1 : random()),
                    static_cast<std::uint32_t>(random() % 2 ? random() : 0)};
                queue.PushBack(message);
                model.push_back(message);
            } else if (!model.empty()) {
                queue.PopFront();
                model.pop_front();
            }
            ASSERT_EQ(queue.Size(), model.size());
            ASSERT_EQ(queue.Empty(), model.empty());
            if (!model.empty()) ExpectSame(queue.Front(), model.front());
        }
    }
}

TEST(MessageQueue, OneElementNeedsNoMemory) {
    MessageQueue queue;
    for (MessageId id = 1; id < 100; ++id) {
        queue.PushBack({id, id, 1, 1, 0, 9});
        EXPECT_EQ(queue.MemoryBytes(), sizeof(MessageQueue));
        queue.PopFront();
    }
}

TEST(MessageQueue, FreesWhatWasRead) {
    MessageQueue queue;
    for (MessageId id = 0; id < 100'000; ++id) queue.PushBack({id, id * 50, 7, 3, 0, 0});
    const std::size_t full = queue.MemoryBytes();
    for (MessageId id = 0; id < 99'000; ++id) queue.PopFront();
    EXPECT_LT(queue.MemoryBytes(), full / 20);
    // A queue that stays short while much goes through it stays small.
    for (MessageId id = 0; id < 100'000; ++id) {
        queue.PushBack({id, id, 7, 3, 0, 0});
        queue.PopFront();
    }
    EXPECT_LT(queue.MemoryBytes(), full / 20);
}

}  // namespace
}  // namespace herald::core
