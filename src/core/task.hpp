// What the scheduler knows about a message and a task: references and numbers, never a payload.

#pragma once

#include <cstdint>

namespace herald::core {

using ChannelId = std::int32_t;
using SubscriptionId = std::int32_t;
using MessageId = std::int64_t;
using RoleId = std::uint32_t;

// Microseconds on one clock of the caller's choice (PostgreSQL's TimestampTz in the server).
using Microseconds = std::int64_t;

// Segment number of a message whose payload lies in the parked table and no longer in the log.
inline constexpr std::uint8_t kParkedSegment = 255;

// Tasks that one worker gets at a time, to run in one transaction, at most. Each may need a
// subtransaction's id, and a transaction with more than 64 of them makes every snapshot slower.
inline constexpr int kMaxBatch = 32;

// Where a message lies. The tuple address is only a hint: the id found there confirms it.
struct MessageRef {
    MessageId id;
    Microseconds published_at;
    std::uint32_t block;
    std::uint16_t offset;
    std::uint8_t segment;
    std::uint32_t key_hash;  // 0: the message has no key
};

// One message for one subscription, as dealt to a worker.
struct Task {
    SubscriptionId subscription;
    MessageRef message;
    std::int32_t attempts;  // failed attempts recorded so far
    std::int32_t losses;    // runs that ended with the worker's death, not recorded yet
    // Not to share a transaction with others: it has disturbed them, or they it.
    bool alone;
};

}  // namespace herald::core
