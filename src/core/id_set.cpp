// Bitmap chunks in a hash table: ids come from one sequence that many channels share, so a set may
// be dense or have wide gaps, and a gap costs nothing. A chunk that becomes empty is freed, so a
// set of waiting ids stays as small as what waits.

#include "core/id_set.hpp"

namespace herald::core {

namespace {

constexpr std::size_t WordOf(std::int64_t id) { return (static_cast<std::uint64_t>(id) >> 6) & 63; }
constexpr std::uint64_t BitOf(std::int64_t id) { return std::uint64_t{1} << (static_cast<std::uint64_t>(id) & 63); }

}  // namespace

bool IdSet::Insert(std::int64_t id) {
    Chunk &chunk = chunks_[id >> kChunkBits];
    std::uint64_t &word = chunk.words[WordOf(id)];
    if (word & BitOf(id)) return false;
    word |= BitOf(id);
    ++chunk.count;
    return true;
}

bool IdSet::Contains(std::int64_t id) const {
    const auto found = chunks_.find(id >> kChunkBits);
    return found != chunks_.end() && (found->second.words[WordOf(id)] & BitOf(id));
}

bool IdSet::Erase(std::int64_t id) {
    const auto found = chunks_.find(id >> kChunkBits);
    if (found == chunks_.end()) return false;
    std::uint64_t &word = found->second.words[WordOf(id)];
    if (!(word & BitOf(id))) return false;
    word &= ~BitOf(id);
    if (--found->second.count == 0) chunks_.erase(found);
    return true;
}

std::size_t IdSet::MemoryBytes() const {
    constexpr std::size_t node_bytes = sizeof(std::pair<const std::int64_t, Chunk>) + 2 * sizeof(void *);
    return sizeof(*this) + chunks_.size() * node_bytes + chunks_.bucket_count() * sizeof(void *);
}

}  // namespace herald::core
