// A set of message ids that are dense and grow: bitmap chunks, an eighth of a byte per id, so that
// remembering two million settled ids takes a quarter of a megabyte.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace herald::core {

class IdSet {
public:
    // Adds the id; false where it was there already.
    bool Insert(std::int64_t id);
    bool Contains(std::int64_t id) const;
    bool Erase(std::int64_t id);
    std::size_t MemoryBytes() const;

private:
    static constexpr int kChunkBits = 12;

    struct Chunk {
        std::array<std::uint64_t, (std::size_t{1} << kChunkBits) / 64> words{};
        std::uint32_t count = 0;  // bits set, so that an empty chunk is freed
    };

    // Chunk number is id / 4096. The chunk lies inside the node: one allocation for 4096 ids.
    std::unordered_map<std::int64_t, Chunk> chunks_;
};

}  // namespace herald::core
