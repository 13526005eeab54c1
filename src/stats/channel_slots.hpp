// The slots of the channel counters: which channel has which, and who makes room where there is none. For
// channel_counters.cpp.

#pragma once

#include "stats/channel_counters.hpp"

extern "C" {
#include "port/atomics.h"
#include "utils/hsearch.h"
}

namespace herald {

struct ChannelKey {
    Oid database;
    char channel[NAMEDATALEN];  // padded with zeros, as it is compared by bytes
};

struct ChannelSlotShared {
    // Guarded by the channel counter lock. An InvalidOid database: free.
    ChannelKey key;
    bool declared;
    Oid role;  // in whose share the slot is; InvalidOid: not known yet
    // Who published to an undeclared channel, then InvalidOid. If all places are taken, there may be more.
    Oid users[kChannelUsers];
    TimestampTz taken_at;

    // Atomic. Even: the generation, twice; handles of another one are void. The commit that dropped the
    // channel, which must not take locks, makes it odd: the slot is there for the taking, and whoever
    // takes it makes it even again.
    pg_atomic_uint32 generation;
    // Atomic, written by anyone who counts.
    pg_atomic_uint64 counters[kChannelCounters];
    pg_atomic_uint64 latency[core::kHistogramBuckets];
    pg_atomic_uint64 last_published_at;
    pg_atomic_uint64 last_delivered_at;
    pg_atomic_uint64 stats_reset;
};

struct ChannelTableShared {
    int capacity;  // immutable; the slot of that number is "(other)"
    // Guarded by the channel counter lock.
    int used;
    int undeclared;            // of these; at most half of the capacity
    int next;                  // where to look for a free slot first
    int hand;                  // where to look for a slot to give away first
    TimestampTz reclaimed_at;  // when slots without a use were last looked for
    ChannelSlotShared slots[FLEXIBLE_ARRAY_MEMBER];
};

struct ChannelEntry {
    ChannelKey key;
    int number;
};

static_assert(std::is_standard_layout_v<ChannelSlotShared>);
static_assert(std::is_standard_layout_v<ChannelTableShared>);

extern ChannelTableShared *channel_table;

bool IsDropped(ChannelSlotShared *slot);
ChannelKey KeyOf(Oid database, const char *channel);
void ZeroSlot(ChannelSlotShared *slot);

// All that follow need the channel counter lock, and but for the first two exclusively.

// The number of the channel's slot, or -1.
int FindSlot(const ChannelKey &key);
// The number of a channel's slot that can be used by the role as it is, or -1.
int FindUsableSlot(const ChannelKey &key, bool declared, Oid role);
// The number of a slot for the channel, made at need; that of "(other)" where there is no room.
int FindOrTakeSlot(const ChannelKey &key, bool declared, Oid role);
void FreeSlot(int number);

Size ChannelSlotMemory();
void InitChannelSlots();

}  // namespace herald
