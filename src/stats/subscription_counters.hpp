// What the dispatcher tells everyone about a subscription, and pause requests the other way round.
//
// A place each, herald.max_subscriptions in the server. A role gets no more of them than are left to others, all roles
// of a database no more than three times as many. A place is taken by herald.subscribe(), before anybody
// can see the subscription, and kept for it by the number of its transaction, however that ends.

#pragma once

#include "core/histogram.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "port/atomics.h"
}

namespace herald {

struct SubscriptionShared {
    // Guarded by the subscription counter lock.
    Oid database;  // InvalidOid: free
    int32 subscription;
    Oid owner;  // a role, whose share this is of; InvalidOid: not known yet
    // The transaction that makes the subscription; invalid: it has ended.
    TransactionId reserved_by;

    // Atomic. Gauges, written by the dispatcher.
    pg_atomic_uint32 pending;
    pg_atomic_uint32 running;
    pg_atomic_uint32 retrying;
    // Atomic. Raised and lowered by herald.pause at once, whatever becomes of its transaction; while
    // not 0 the dispatcher deals nothing.
    pg_atomic_uint32 pause_requests;
    // Atomic. Counted up with each such request, before it is raised.
    pg_atomic_uint32 pauses;
    // Atomic. A TimestampTz of the oldest pending or retrying task; 0: none. Written by the dispatcher.
    pg_atomic_uint64 oldest_published_at;
    // Atomic. Written by the dispatcher: tasks done, failed attempts.
    pg_atomic_uint64 done;
    pg_atomic_uint64 failed;
    // Atomic. Dead letters, as a signed number, and the epoch in which it was counted (0: never): see
    // stats/dead_counts.hpp.
    pg_atomic_uint64 dead;
    pg_atomic_uint64 dead_epoch;
    // Atomic. When a dead letter was logged last, a TimestampTz (0: never), and how many were not since; by workers.
    pg_atomic_uint64 dead_logged_at;
    pg_atomic_uint32 dead_unlogged;
    // Atomic. Written by the dispatcher: from publication to the start of the handler.
    pg_atomic_uint64 latency[core::kHistogramBuckets];
};

static_assert(std::is_standard_layout_v<SubscriptionShared>);

// The entry of a subscription, or NULL.
SubscriptionShared *FindSubscriptionShared(Oid database, int32 subscription);
// The same, but a new entry where there is none. NULL where no place is left for that owner. `reserved_by`: the current
// transaction where it makes the subscription, else invalid.
SubscriptionShared *PlaceSubscription(Oid database, int32 subscription, Oid owner, TransactionId reserved_by);
void RemoveSubscriptionShared(Oid database, int32 subscription);
// Frees the entries of a database whose subscriptions are not among the given ones, which are all that a snapshot
// shows. Before that snapshot is taken, the entries whose transactions have ended must be told from the others by
// SettleReservations.
void SettleReservations(Oid database);
void KeepSubscriptions(Oid database, const int32 *subscriptions, int count);

// False where it is too early for another line; it is counted. `others`: those that were counted since the last line.
bool MayLogDeadLetter(SubscriptionShared *entry, TimestampTz now, uint32 *others);

// How the places are used: of `capacity`.
struct SubscriptionPlaces {
    int used;
    int capacity;
};
SubscriptionPlaces ReadSubscriptionPlaces();
// Sets counters and histogram to 0; the gauges stay.
void ResetSubscriptionShared(SubscriptionShared *entry);
// Adds a latency, in microseconds, to the histogram.
void CountSubscriptionLatency(SubscriptionShared *entry, int64 microseconds);

// What is counted of a subscription, without the gauges: those the dispatcher writes anew.
struct SubscriptionCounterSnapshot {
    Oid database;
    int32 subscription;
    uint64 done;
    uint64 failed;
    uint64 latency[core::kHistogramBuckets];
};
// Entries are numbered from 0 to the capacity - 1. False where the entry is free.
bool ReadSubscriptionCounters(int number, SubscriptionCounterSnapshot *snapshot);
// Adds what a snapshot says; nothing where the table is full.
void AddSubscriptionCounters(const SubscriptionCounterSnapshot &snapshot);

// Takes away what was counted for a database, channels as well as subscriptions: it was dropped.
void RemoveDatabaseStatistics(Oid database);

Size SubscriptionCounterMemory();
void InitSubscriptionCounters();  // in the shmem_startup_hook, under AddinShmemInitLock

}  // namespace herald
