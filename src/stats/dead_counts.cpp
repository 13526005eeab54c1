// See dead_counts.hpp.

#include "stats/dead_counts.hpp"

#include "registry/lwlocks.hpp"
#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/transaction_list.hpp"
#include "stats/subscription_counters.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

constexpr AttrNumber kSubscriptionId = 2;  // of dead_letter_store, in the order of the script

// Differences of the current transaction, ordered by subtransaction.
struct Difference {
    int32 subscription;
    SubTransactionId subtransaction;
    int64 amount;
};

pg::TransactionList<Difference> differences;
bool in_flight = false;

void TakeOff() {
    if (differences.count == 0) return;
    in_flight = true;
    pg_atomic_fetch_add_u32(&ThisDatabase()->dead_letters.in_flight, 1);
}

void Land() {
    if (in_flight) pg_atomic_fetch_sub_u32(&ThisDatabase()->dead_letters.in_flight, 1);
    in_flight = false;
    differences.Forget();
}

void Apply() {
    for (const Difference &difference : differences) {
        SubscriptionShared *entry = FindSubscriptionShared(MyDatabaseId, difference.subscription);
        if (entry != nullptr) pg_atomic_fetch_add_u64(&entry->dead, difference.amount);
    }
    if (differences.count > 0) pg_atomic_fetch_add_u64(&ThisDatabase()->dead_letters.changes, 1);
    Land();
}

void KeepSub(SubTransactionId own, SubTransactionId parent) { differences.KeepSub(own, parent); }

void DropSub(SubTransactionId own) { differences.DropSub(own); }

int64 CountIn(Snapshot snapshot, int32 subscription) {
    int64 count = 0;
    ScanKeyData key;
    const Oid schema = pg::Tables().internal;
    ScanKeyInit(&key, kSubscriptionId, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(subscription));
    Relation table = pg::OpenTable(get_relname_relid("dead_letter_store", schema), AccessShareLock, kDeadLetterForm);
    SysScanDesc scan =
        systable_beginscan(table, get_relname_relid("dead_letter_store_subscription", schema), true, snapshot, 1, &key);
    for (; HeapTupleIsValid(systable_getnext(scan)); count++) CHECK_FOR_INTERRUPTS();
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return count;
}

}  // namespace

// COMMIT PREPARED has everything counted again, see outbox/prepared.hpp.
const pg::TransactionPart kDeadCountsPart = {.before_commit = TakeOff,
                                             .before_prepare = pg::NoEnd,
                                             .committed = Apply,
                                             .prepared = Land,
                                             .aborted = Land,
                                             .sub_committed = KeepSub,
                                             .sub_aborted = DropSub};

void CountDeadAtCommit(int32 subscription, int64 difference) {
    if (difference == 0) return;
    // The commit must not fail for lack of it.
    (void)ThisDatabase();
    RaiseFlagIfPrepared(kFlagDeadLetters);
    const SubTransactionId own = GetCurrentSubTransactionId();
    Difference *last = differences.count == 0 ? nullptr : &differences.items[differences.count - 1];
    if (last != nullptr && last->subscription == subscription && last->subtransaction == own)
        last->amount += difference;
    else
        (void)differences.Add({subscription, own, difference});
}

int64 DeadLettersOf(int32 subscription) {
    DatabaseShared *database = RecoveryInProgress() ? nullptr : ThisDatabase();
    SubscriptionShared *entry = database == nullptr ? nullptr : FindSubscriptionShared(MyDatabaseId, subscription);
    uint64 epoch = 0;
    uint64 changes = 0;
    int64 before = 0;
    bool quiet = false;
    if (entry != nullptr) {
        epoch = pg_atomic_read_u64(&database->dead_letters.epoch);
        before = static_cast<int64>(pg_atomic_read_u64(&entry->dead));
        // Its own changes a transaction sees only by counting.
        if (pg_atomic_read_u64(&entry->dead_epoch) == epoch && differences.count == 0) return before;
        changes = pg_atomic_read_u64(&database->dead_letters.changes);
        pg_memory_barrier();
        quiet = pg_atomic_read_u32(&database->dead_letters.in_flight) == 0;
        before = static_cast<int64>(pg_atomic_read_u64(&entry->dead));
    }
    const bool latest = !IsInParallelMode();
    Snapshot snapshot = RegisterSnapshot(latest ? GetLatestSnapshot() : GetActiveSnapshot());
    if (entry != nullptr) {
        // Nobody was at it while the snapshot was taken: it shows what the entry has been told of.
        pg_memory_barrier();
        quiet = quiet && latest && pg_atomic_read_u32(&database->dead_letters.in_flight) == 0 &&
                pg_atomic_read_u64(&database->dead_letters.changes) == changes;
    }
    const int64 count = CountIn(snapshot, subscription);
    UnregisterSnapshot(snapshot);
    if (quiet && differences.count == 0) {
        // Two who count at the same time must not both correct it.
        LWLockAcquire(Lock(kSubscriptionCounterLock), LW_EXCLUSIVE);
        if (entry->database == MyDatabaseId && entry->subscription == subscription &&
            pg_atomic_read_u64(&entry->dead_epoch) != epoch) {
            pg_atomic_fetch_add_u64(&entry->dead, count - before);
            pg_atomic_write_u64(&entry->dead_epoch, epoch);
        }
        LWLockRelease(Lock(kSubscriptionCounterLock));
    }
    return count;
}

}  // namespace herald
