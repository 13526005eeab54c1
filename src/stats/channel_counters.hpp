// Counters of channels in shared memory: what was published, announced, rejected, delivered, and how
// long messages waited.
//
// A table of (database, channel) gives each channel a slot of atomics. Declared channels may use all
// of herald.max_channels slots, undeclared ones at most half, so that inventing names takes nothing
// away from channels that someone owns. Where there is no room the role with most slots makes room, see
// slot_shares.hpp. What finds no slot is counted together as "(other)".
//
// A slot handle carries the slot's generation: a handle that outlived its channel counts as "(other)"
// and never as the channel that got the slot next.

#pragma once

#include "core/histogram.hpp"
#include "pg/pg.hpp"

namespace herald {

enum class ChannelCounter : int {
    kPublished = 0,   // messages of committed transactions
    kPublishedBytes,  // their payloads, as stored
    kAnnounced,       // notifications sent
    kRejected,        // publications refused: invalid, too large, not permitted, not fitting the schema
    kWarned,          // publications that do not fit the schema of a channel that only warns
    kDelivered,       // attempts of tasks that succeeded
    kFailed,          // attempts that failed
    kRetried,         // failed attempts after which another one was planned
    kDead,            // failed attempts that were the last
};
inline constexpr int kChannelCounters = 9;

inline constexpr char kOtherChannels[] = "(other)";
inline constexpr int kChannelUsers = 4;

// The slot of a channel of `database`, made at need. Never an error: where the table is full the
// slot of "(other)". `role`: the owner of a declared channel, or who publishes to an undeclared one; InvalidOid: not known.
int ChannelCounterSlot(Oid database, const char *channel, bool declared, Oid role);
// False where the slot was given away since; ask for it again.
bool ChannelCounterSlotValid(int slot);

// Counts when the current transaction commits, or is prepared: COMMIT PREPARED cannot count, as no
// callback tells it what was published. Nothing of a rolled-back subtransaction counts.
void CountAtCommit(int slot, ChannelCounter counter, uint64 amount);
// Counts at once. Safe anywhere, also in commit and exit callbacks.
void CountNow(int slot, ChannelCounter counter, uint64 amount);
// A message of the channel reached its handler `microseconds` after it was published.
void CountLatency(int slot, int64 microseconds);

// Gives the channel's slot back when the current (sub)transaction commits.
void RemoveChannelCountersAtCommit(Oid database, const char *channel);
// Gives back all slots of a database, at once.
void RemoveDatabaseChannelCounters(Oid database);

// A copy of one slot. Times are 0 where nothing happened yet.
struct ChannelCounterSnapshot {
    Oid database;  // InvalidOid: "(other)"
    bool declared;
    Oid role;
    Oid users[kChannelUsers];
    char channel[NAMEDATALEN];
    uint64 counters[kChannelCounters];
    uint64 latency[core::kHistogramBuckets];
    TimestampTz last_published_at;
    TimestampTz last_delivered_at;
    TimestampTz stats_reset;
};
struct ChannelCounterUsage {
    int used;
    int undeclared;  // of these
};
ChannelCounterUsage ReadChannelCounterUsage();

// True where somebody published to the channel within a day. `users` has room for kChannelUsers roles, and InvalidOid
// after the last; where it is full there may be more.
bool ReadChannelUsers(Oid database, const char *channel, Oid *users);

// Slots are numbered from 0 to ChannelCounterCapacity(), the last being "(other)".
int ChannelCounterCapacity();
// False where the slot is free.
bool ReadChannelCounters(int number, ChannelCounterSnapshot *snapshot);
// Adds what a snapshot says to the slot of its channel, or to "(other)" where there is no room.
void AddChannelCounters(const ChannelCounterSnapshot &snapshot);
// Sets a channel's counters to 0 and notes the time; false where the channel has none. NULL: all
// channels of the database, and "(other)"; undeclared ones give their slots back.
bool ResetChannelCounters(Oid database, const char *channel);

Size ChannelCounterMemory();
void InitChannelCounters();  // in the shmem_startup_hook, under AddinShmemInitLock

}  // namespace herald
