// See subscription_counters.hpp. A plain array: processes look an entry up once and keep the pointer. What it is
// looked up by stands apart from the counters, so that a look reads little memory.

#include "stats/subscription_counters.hpp"

#include "registry/lwlocks.hpp"
#include "settings.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "access/transam.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
}

namespace herald {

namespace {

// All roles of a database may have so many times as many places as are left.
constexpr int kDatabaseFactor = 3;

struct KeyShared {
    Oid database;
    int32 subscription;
};

// Guarded by the subscription counter lock; immutable: the capacity.
struct SubscriptionTableShared {
    int capacity;
    KeyShared keys[FLEXIBLE_ARRAY_MEMBER];  // the same as in the entries
};

SubscriptionTableShared *table = nullptr;
SubscriptionShared *entries = nullptr;

Size KeysSize() {
    return MAXALIGN(offsetof(SubscriptionTableShared, keys) +
                    sizeof(KeyShared) * static_cast<Size>(settings::max_subscriptions));
}

SubscriptionShared *Search(Oid database, int32 subscription) {
    for (int i = 0; i < table->capacity; i++)
        if (table->keys[i].database == database && table->keys[i].subscription == subscription) return &entries[i];
    return nullptr;
}

// Under the exclusive lock.
bool HasRoom(Oid database, Oid owner) {
    int used = 0;
    int of_database = 0;
    int of_owner = 0;
    for (int i = 0; i < table->capacity; i++) {
        if (!OidIsValid(table->keys[i].database)) continue;
        used++;
        if (table->keys[i].database == database) of_database++;
        if (entries[i].owner == owner) of_owner++;
    }
    const int left = table->capacity - used;
    return of_owner < left && of_database < kDatabaseFactor * left;
}

void Zero(SubscriptionShared *entry) {
    pg_atomic_write_u32(&entry->pending, 0);
    pg_atomic_write_u32(&entry->running, 0);
    pg_atomic_write_u32(&entry->retrying, 0);
    pg_atomic_write_u32(&entry->pause_requests, 0);
    pg_atomic_write_u64(&entry->oldest_published_at, 0);
    pg_atomic_write_u64(&entry->dead, 0);
    pg_atomic_write_u64(&entry->dead_epoch, 0);
    pg_atomic_write_u64(&entry->dead_logged_at, 0);
    pg_atomic_write_u32(&entry->dead_unlogged, 0);
    ResetSubscriptionShared(entry);
}

void SetKey(SubscriptionShared *entry, Oid database, int32 subscription) {
    entry->database = database;
    entry->subscription = subscription;
    table->keys[entry - entries] = {database, subscription};
}

void Free(SubscriptionShared *entry) { SetKey(entry, InvalidOid, 0); }

}  // namespace

SubscriptionShared *FindSubscriptionShared(Oid database, int32 subscription) {
    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_SHARED);
    SubscriptionShared *entry = Search(database, subscription);
    LWLockRelease(Lock(kSubscriptionCounterLock));
    return entry;
}

SubscriptionShared *PlaceSubscription(Oid database, int32 subscription, Oid owner, TransactionId reserved_by) {
    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_EXCLUSIVE);
    SubscriptionShared *entry = Search(database, subscription);
    if (entry == nullptr && HasRoom(database, owner)) {
        entry = Search(InvalidOid, 0);
        Zero(entry);
        SetKey(entry, database, subscription);
    }
    if (entry != nullptr) {
        entry->owner = owner;
        entry->reserved_by = reserved_by;
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

void SettleReservations(Oid database) {
    for (int i = 0; i < table->capacity; i++) {
        SubscriptionShared *entry = &entries[i];
        LWLockAcquire(Lock(kSubscriptionCounterLock), LW_SHARED);
        const TransactionId xid = entry->database == database ? entry->reserved_by : InvalidTransactionId;
        LWLockRelease(Lock(kSubscriptionCounterLock));
        // Prepared ones are in progress, too.
        if (!TransactionIdIsValid(xid) || TransactionIdIsInProgress(xid)) continue;
        LWLockAcquire(Lock(kSubscriptionCounterLock), LW_EXCLUSIVE);
        if (entry->database == database && entry->reserved_by == xid) entry->reserved_by = InvalidTransactionId;
        LWLockRelease(Lock(kSubscriptionCounterLock));
    }
}

void KeepSubscriptions(Oid database, const int32 *subscriptions, int count) {
    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_EXCLUSIVE);
    for (int i = 0; i < table->capacity; i++) {
        if (table->keys[i].database != database || TransactionIdIsValid(entries[i].reserved_by)) continue;
        bool listed = false;
        for (int j = 0; j < count && !listed; j++) listed = subscriptions[j] == table->keys[i].subscription;
        if (!listed) Free(&entries[i]);
    }
    LWLockRelease(Lock(kSubscriptionCounterLock));
}

SubscriptionPlaces ReadSubscriptionPlaces() {
    SubscriptionPlaces places = {0, table->capacity};
    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_SHARED);
    for (int i = 0; i < table->capacity; i++)
        if (OidIsValid(table->keys[i].database)) places.used++;
    LWLockRelease(Lock(kSubscriptionCounterLock));
    return places;
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
    SubscriptionShared *entry = &entries[number];

    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_SHARED);
    snapshot->database = entry->database;
    snapshot->subscription = entry->subscription;
    snapshot->done = pg_atomic_read_u64(&entry->done);
    snapshot->failed = pg_atomic_read_u64(&entry->failed);
    for (int i = 0; i < core::kHistogramBuckets; i++) snapshot->latency[i] = pg_atomic_read_u64(&entry->latency[i]);
    LWLockRelease(Lock(kSubscriptionCounterLock));
    return OidIsValid(snapshot->database);
}

void AddSubscriptionCounters(const SubscriptionCounterSnapshot &snapshot) {
    // The dispatcher will know the owner.
    SubscriptionShared *entry =
        PlaceSubscription(snapshot.database, snapshot.subscription, InvalidOid, InvalidTransactionId);
    if (entry == nullptr) return;
    pg_atomic_fetch_add_u64(&entry->done, static_cast<int64>(snapshot.done));
    pg_atomic_fetch_add_u64(&entry->failed, static_cast<int64>(snapshot.failed));
    for (int i = 0; i < core::kHistogramBuckets; i++)
        pg_atomic_fetch_add_u64(&entry->latency[i], static_cast<int64>(snapshot.latency[i]));
}

void RemoveDatabaseStatistics(Oid database) {
    RemoveDatabaseChannelCounters(database);
    LWLockAcquire(Lock(kSubscriptionCounterLock), LW_EXCLUSIVE);
    for (int i = 0; i < table->capacity; i++)
        if (table->keys[i].database == database) Free(&entries[i]);
    LWLockRelease(Lock(kSubscriptionCounterLock));
}

Size SubscriptionCounterMemory() {
    return add_size(KeysSize(), mul_size(sizeof(SubscriptionShared), static_cast<Size>(settings::max_subscriptions)));
}

void InitSubscriptionCounters() {
    bool found;
    table = static_cast<SubscriptionTableShared *>(
        ShmemInitStruct("pg_herald subscriptions", SubscriptionCounterMemory(), &found));
    entries = reinterpret_cast<SubscriptionShared *>(reinterpret_cast<char *>(table) + KeysSize());
    if (found) return;
    std::memset(static_cast<void *>(table), 0, SubscriptionCounterMemory());
    table->capacity = settings::max_subscriptions;
    for (int i = 0; i < table->capacity; i++) {
        SubscriptionShared &entry = entries[i];
        pg_atomic_init_u32(&entry.pending, 0);
        pg_atomic_init_u32(&entry.running, 0);
        pg_atomic_init_u32(&entry.retrying, 0);
        pg_atomic_init_u32(&entry.pause_requests, 0);
        pg_atomic_init_u32(&entry.pauses, 0);
        pg_atomic_init_u64(&entry.oldest_published_at, 0);
        pg_atomic_init_u64(&entry.dead, 0);
        pg_atomic_init_u64(&entry.dead_epoch, 0);
        pg_atomic_init_u64(&entry.dead_logged_at, 0);
        pg_atomic_init_u32(&entry.dead_unlogged, 0);
        pg_atomic_init_u64(&entry.done, 0);
        pg_atomic_init_u64(&entry.failed, 0);
        for (pg_atomic_uint64 &bucket : entry.latency) pg_atomic_init_u64(&bucket, 0);
    }
}

bool MayLogDeadLetter(SubscriptionShared *entry, TimestampTz now, uint32 *others) {
    constexpr int64 kInterval = 60 * USECS_PER_SEC;
    uint64 logged = pg_atomic_read_u64(&entry->dead_logged_at);
    const int64 past = now - static_cast<TimestampTz>(logged);
    // Also where the clock went back.
    const bool due = logged == 0 || past >= kInterval || past < 0;
    if (!due || !pg_atomic_compare_exchange_u64(&entry->dead_logged_at, &logged, static_cast<uint64>(now))) {
        pg_atomic_fetch_add_u32(&entry->dead_unlogged, 1);
        return false;
    }
    *others = pg_atomic_exchange_u32(&entry->dead_unlogged, 0);
    return true;
}

}  // namespace herald
