// See subscription_counters.hpp. A plain array: processes look an entry up once and keep the pointer.

#include "stats/subscription_counters.hpp"

#include "outbox/locks.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "storage/shmem.h"
}

namespace herald {

namespace {

struct SubscriptionTableShared {
    SubscriptionShared entries[kMaxSubscriptionCounters];
};

SubscriptionTableShared *table = nullptr;

SubscriptionShared *Search(Oid database, int32 subscription) {
    for (SubscriptionShared &entry : table->entries)
        if (entry.database == database && entry.subscription == subscription) return &entry;
    return nullptr;
}

void Zero(SubscriptionShared *entry) {
    pg_atomic_write_u32(&entry->pending, 0);
    pg_atomic_write_u32(&entry->running, 0);
    pg_atomic_write_u32(&entry->retrying, 0);
    pg_atomic_write_u32(&entry->pause_requests, 0);
    pg_atomic_write_u64(&entry->oldest_published_at, 0);
    pg_atomic_write_u64(&entry->dead, 0);
    pg_atomic_write_u64(&entry->dead_epoch, 0);
    ResetSubscriptionShared(entry);
}

void Free(SubscriptionShared *entry) {
    entry->database = InvalidOid;
    entry->subscription = 0;
}

}  // namespace

SubscriptionShared *FindSubscriptionShared(Oid database, int32 subscription, bool create) {
    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_SHARED);
    SubscriptionShared *entry = Search(database, subscription);
    LWLockRelease(Lock(kSubscriptionCounterLock));
    if (entry != nullptr || !create) return entry;

    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_EXCLUSIVE);
    entry = Search(database, subscription);
    if (entry == nullptr) entry = Search(InvalidOid, 0);
    if (entry != nullptr && !OidIsValid(entry->database)) {
        Zero(entry);
        entry->database = database;
        entry->subscription = subscription;
    }
    LWLockRelease(Lock(kSubscriptionCounterLock));
    return entry;
}

void RemoveSubscriptionShared(Oid database, int32 subscription) {
    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_EXCLUSIVE);
    SubscriptionShared *entry = Search(database, subscription);
    if (entry != nullptr) Free(entry);
    LWLockRelease(Lock(kSubscriptionCounterLock));
}

void ResetSubscriptionShared(SubscriptionShared *entry) {
    pg_atomic_write_u64(&entry->done, 0);
    pg_atomic_write_u64(&entry->failed, 0);
    for (pg_atomic_uint64 &bucket : entry->latency) pg_atomic_write_u64(&bucket, 0);
}

void CountSubscriptionLatency(SubscriptionShared *entry, int64 microseconds) {
    pg_atomic_fetch_add_u64(&entry->latency[core::BucketOf(microseconds)], 1);
}

bool ReadSubscriptionCounters(int number, SubscriptionCounterSnapshot *snapshot) {
    SubscriptionShared *entry = &table->entries[number];

    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_SHARED);
    snapshot->database = entry->database;
    snapshot->subscription = entry->subscription;
    snapshot->done = pg_atomic_read_u64(&entry->done);
    snapshot->failed = pg_atomic_read_u64(&entry->failed);
    for (int i = 0; i < core::kHistogramBuckets; i++)
        snapshot->latency[i] = pg_atomic_read_u64(&entry->latency[i]);
    LWLockRelease(Lock(kSubscriptionCounterLock));
    return OidIsValid(snapshot->database);
}

void AddSubscriptionCounters(const SubscriptionCounterSnapshot &snapshot) {
    SubscriptionShared *entry =
        FindSubscriptionShared(snapshot.database, snapshot.subscription, true);
    if (entry == nullptr) return;
    pg_atomic_fetch_add_u64(&entry->done, static_cast<int64>(snapshot.done));
    pg_atomic_fetch_add_u64(&entry->failed, static_cast<int64>(snapshot.failed));
    for (int i = 0; i < core::kHistogramBuckets; i++)
        pg_atomic_fetch_add_u64(&entry->latency[i], static_cast<int64>(snapshot.latency[i]));
}

TimestampTz OldestPublishedAt(Oid database) {
    TimestampTz oldest = 0;
    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_SHARED);
    if (Search(InvalidOid, 0) == nullptr) oldest = DT_NOBEGIN;
    for (SubscriptionShared &entry : table->entries) {
        if (entry.database != database) continue;
        const TimestampTz own =
            static_cast<TimestampTz>(pg_atomic_read_u64(&entry.oldest_published_at));
        if (own != 0 && (oldest == 0 || own < oldest)) oldest = own;
    }
    LWLockRelease(Lock(kSubscriptionCounterLock));
    return oldest;
}

void RemoveDatabaseStatistics(Oid database) {
    RemoveDatabaseChannelCounters(database);
    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_EXCLUSIVE);
    for (SubscriptionShared &entry : table->entries)
        if (entry.database == database) Free(&entry);
    LWLockRelease(Lock(kSubscriptionCounterLock));
}

Size SubscriptionCounterMemory() { return MAXALIGN(sizeof(SubscriptionTableShared)); }

void InitSubscriptionCounters() {
    bool found;
    table = static_cast<SubscriptionTableShared *>(
        ShmemInitStruct("pg_herald subscriptions", sizeof(SubscriptionTableShared), &found));
    if (found) return;
    std::memset(static_cast<void *>(table), 0, sizeof(SubscriptionTableShared));
    for (SubscriptionShared &entry : table->entries) {
        pg_atomic_init_u32(&entry.pending, 0);
        pg_atomic_init_u32(&entry.running, 0);
        pg_atomic_init_u32(&entry.retrying, 0);
        pg_atomic_init_u32(&entry.pause_requests, 0);
        pg_atomic_init_u32(&entry.pauses, 0);
        pg_atomic_init_u64(&entry.oldest_published_at, 0);
        pg_atomic_init_u64(&entry.dead, 0);
        pg_atomic_init_u64(&entry.dead_epoch, 0);
        pg_atomic_init_u64(&entry.done, 0);
        pg_atomic_init_u64(&entry.failed, 0);
        for (pg_atomic_uint64 &bucket : entry.latency) pg_atomic_init_u64(&bucket, 0);
    }
}

}  // namespace herald
