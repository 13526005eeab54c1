// See rotation.hpp.

#include "rotation/rotation.hpp"

#include "rotation/leftovers.hpp"
#include "rotation/log_size.hpp"
#include "log/log_table.hpp"
#include "pg/clock.hpp"
#include "pg/compat.hpp"
#include "pg/extension.hpp"
#include "pg/process.hpp"
#include "pg/spi.hpp"
#include "pg/subtransaction.hpp"
#include "pg/table_trust.hpp"
#include "settings.hpp"
#include "stats/subscription_counters.hpp"
#include "tables/own_tables.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

// How long until the next try, at the longest. It doubles each time, since what holds a segment for more than a moment (a
// vacuum, a dump) takes its time.
constexpr TimestampTz kNextTry = 10 * USECS_PER_SEC;
constexpr int kLongestQueue = 500;  // milliseconds
constexpr TimestampTz kStep = 10 * 1000;
constexpr TimestampTz kSoon = USECS_PER_SEC;
// How long an old snapshot, that of a dump above all, is waited for at least.
constexpr TimestampTz kLongestSnapshot = USECS_PER_HOUR;

TimestampTz stop_began = 0;  // tasks are not dealt since; 0: they are
TimestampTz next_try = 0;
TimestampTz try_interval = kSoon;
TimestampTz last_turn = 0;
// When the current segment got its first message, by the clock of this process: what a publisher's clock said may be
// anything. DT_NOEND: it is empty.
TimestampTz began = DT_NOEND;

// Of a segment in which nothing is left to do: since when, for which subscriptions, and who had a snapshot of the
// database then.
struct Done {
    TimestampTz since;  // 0: not so
    char *subscriptions;
    VirtualTransactionId *older;
    int count;
};
Done done[pg::kSegments];

// When its oldest message was published: nearly, its first row is the oldest one. DT_NOEND: none is seen.
TimestampTz FirstPublished(Oid table) {
    TimestampTz first = DT_NOEND;
    Relation relation = pg::OpenTable(table, AccessShareLock, kLogForm);
    TableScanDesc scan = pg::BeginTableScan(relation, GetActiveSnapshot());
    TupleTableSlot *row = table_slot_create(relation, nullptr);
    bool is_null;
    if (table_scan_getnextslot(scan, ForwardScanDirection, row))
        first = DatumGetTimestampTz(slot_getattr(row, kLogPublishedAt, &is_null));
    ExecDropSingleTupleTableSlot(row);
    table_endscan(scan);
    table_close(relation, AccessShareLock);
    return first;
}

int Following(int segment) { return (segment + 1) % pg::kSegments; }

int CurrentOf(DatabaseShared *database) { return static_cast<int>(pg_atomic_read_u32(&database->log.segment)); }

bool IsEmpty(int segment) {
    return HeapBytes(pg::Tables().log[segment]) == 0 && HeapBytes(pg::Tables().settled[segment]) == 0;
}

// True where no task waits whose message was published before the current segment was turned to. Then nothing
// of the others is dealt any more.
bool OthersAreDrained() {
    const TimestampTz oldest =
        static_cast<TimestampTz>(pg_atomic_read_u64(&ThisDatabase()->dispatcher.oldest_published_at));
    return oldest == 0 || oldest > last_turn;
}

bool IsTime(int current) {
    const TimestampTz now = GetCurrentTimestamp();
    const TimestampTz first = FirstPublished(pg::Tables().log[current]);
    began = first == DT_NOEND ? DT_NOEND : Min(began, Min(first, now));
    if (began != DT_NOEND && now - began >= settings::rotation_period * USECS_PER_SEC) return true;
    const uint64 bytes = HeapBytes(pg::Tables().log[current]);
    // So that what is emptied at half of the limit is the older half of it.
    if (LogLimit() > 0 && bytes >= LogLimit() / 4) return true;
    return settings::segment_size > 0 && bytes >= static_cast<uint64>(settings::segment_size) * 1024 * 1024 &&
           OthersAreDrained();
}

void SetDealing(DatabaseShared *database, bool dealing) {
    const TimestampTz now = GetCurrentTimestamp();
    // It ends by itself: this process may be kept from ending it, by a NOTIFY of somebody else.
    pg_atomic_write_u64(&database->log.dealing_stopped, dealing ? 0 : static_cast<uint64>(now + kLongestStop));
    WakeConsumer(database, Consumer::kDispatcher);
    stop_began = dealing ? 0 : now;
}

enum class Holders { kWorkers, kBrief, kLong };

// Who keeps us from the segment. Only our workers: they will let go soon if they get no more of its tasks. Only transactions
// that have just begun: most of those end soon.
Holders FindHolders(int segment) {
    pg::SpiBegin();
    (void)pg::SpiRun(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE a.xact_start > pg_catalog.clock_timestamp() - interval '2 s')"
        " FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid"
        " WHERE l.locktype = 'relation' AND l.granted"
        " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
        " AND l.relation IN ($1, $2) AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
        " AND a.backend_type IS DISTINCT FROM 'pg_herald worker'",
        std::array{pg::ObjectId(pg::Tables().log[segment]), pg::ObjectId(pg::Tables().settled[segment])});
    const int64 others = pg::SpiInt8(0, 1), brief = pg::SpiInt8(0, 2);
    pg::SpiEnd();
    if (others == 0) return Holders::kWorkers;
    return brief == others ? Holders::kBrief : Holders::kLong;
}

bool TryLock(Oid first, Oid second) {
    if (!ConditionalLockRelationOid(first, AccessExclusiveLock)) return false;
    if (ConditionalLockRelationOid(second, AccessExclusiveLock)) return true;
    UnlockRelationOid(first, AccessExclusiveLock);
    return false;
}

// Those who look at the tables for a moment each, but one after another without a gap, would keep us out for ever. So
// they queue behind us, for a moment at most. Never with the other table locked: who has locks in another order than we
// would wait for us.
bool QueueFor(Oid first, Oid second) {
    ErrorData *error;
    pg::LimitLockWaits(kLongestQueue);
    const bool locked = pg::InSubtransaction(
        [&] {
            LockRelationOid(first, AccessExclusiveLock);
            if (!ConditionalLockRelationOid(second, AccessExclusiveLock))
                ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("the segment is locked")));
        },
        &error);
    pg::UnlimitLockWaits();
    if (!locked && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
        error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
        ReThrowError(error);
    return locked;
}

enum class Emptied { kYes, kNotYet, kHeldByWorkers, kHeldByOthers, kLocked };

// kLocked: both tables of it are.
Emptied LockSegment(int segment) {
    const Oid log = pg::Tables().log[segment], settled = pg::Tables().settled[segment];
    if (TryLock(log, settled)) return Emptied::kLocked;
    const Holders holders = FindHolders(segment);
    if (holders == Holders::kWorkers) return Emptied::kHeldByWorkers;
    const bool locked = holders == Holders::kBrief && (QueueFor(log, settled) || QueueFor(settled, log));
    return locked ? Emptied::kLocked : Emptied::kHeldByOthers;
}

// True where a worker has a task of the segment, or had one of which the dispatcher has not taken note. Asked
// under the segment's lock: who gets one later sees that it was moved, and hands it back.
bool WorkersHaveTasksOf(int segment) {
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        const WorkerSlotShared *slot = WorkerSlot(i);
        const SlotState state = StateOf(slot);
        if (slot->database != MyDatabaseId || (state != SlotState::kAssigned && state != SlotState::kRunning &&
                                               state != SlotState::kReported && state != SlotState::kGone))
            continue;
        const uint32 end = ProgressOf(slot).end;
        for (uint32 task = 0; task < end; task++)
            if (slot->tasks[task].task.message.segment == segment) return true;
    }
    return false;
}

// Transactions of this database that have a snapshot, but for vacuums. That of this one is the newest.
VirtualTransactionId *ListSnapshots(int *count) {
    return GetCurrentVirtualXIDs(InvalidTransactionId, true, false, PROC_IS_AUTOVACUUM | PROC_IN_VACUUM, count);
}

// The ids of all subscriptions as of now, in the current context.
char *ListSubscriptions() {
    MemoryContext caller = CurrentMemoryContext;
    pg::SpiBegin();
    (void)pg::SpiRun("SELECT pg_catalog.string_agg(id::text, ' ' ORDER BY id) FROM herald_internal.subscription_store");
    const char *ids = pg::SpiText(0, 1);
    char *copy = MemoryContextStrdup(caller, ids == nullptr ? "" : ids);
    pg::SpiEnd();
    return copy;
}

void ClearDone(int segment) {
    if (done[segment].since != 0) {
        pfree(done[segment].older);
        pfree(done[segment].subscriptions);
    }
    done[segment] = {};
}

void SetDone(int segment, const char *subscriptions) {
    int count;
    ClearDone(segment);
    MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
    VirtualTransactionId *older = ListSnapshots(&count);
    done[segment] = {GetCurrentTimestamp(), pstrdup(subscriptions), older, count};
    MemoryContextSwitchTo(caller);
}

// True where an unsubscribe is under way, after which there would be nobody to move tasks for. Keeps others from
// beginning.
bool SubscriptionsAreLeaving() {
    pg::SpiBegin();
    (void)pg::SpiRun(
        "SELECT (SELECT pg_catalog.count(*) FROM herald_internal.subscription_store) <>"
        " (SELECT pg_catalog.count(*) FROM (SELECT FROM herald_internal.subscription_store"
        " FOR KEY SHARE SKIP LOCKED) AS kept)");
    const bool leaving = pg::SpiBool(0, 1);
    pg::SpiEnd();
    return leaving;
}

// True where every snapshot shows the segment as it is now, with nothing left to do: then it makes no difference
// that TRUNCATE is seen at once, also by snapshots before it. A dump with an older one would have the messages
// neither in the log nor among the parked.
bool MayTruncate(DatabaseShared *database, int segment) {
    const Done &state = done[segment];
    if (state.since == 0) return false;
    // An old snapshot must not make the log grow without end.
    if (IsHalfFull(database) ||
        HasPassed(state.since, GetCurrentTimestamp(), Max(settings::rotation_period * USECS_PER_SEC, kLongestSnapshot)))
        return true;
    int count;
    const VirtualTransactionId *present = ListSnapshots(&count);
    for (int i = 0; i < state.count; i++)
        for (int j = 0; j < count; j++)
            if (VirtualTransactionIdEquals(state.older[i], present[j])) return false;
    return true;
}

bool TrustsTablesOf(int segment) {
    const char *const names[] = {psprintf("log_%d", segment),
                                 psprintf("settled_%d", segment),
                                 "parked_store",
                                 "dead_letter_store",
                                 "subscription_store",
                                 "channel_store"};
    return pg::TrustsTables(names, lengthof(names));
}

// In two steps: what is left is moved, and once no older snapshot is there, the segment is emptied.
Emptied Empty(DatabaseShared *database, int segment) {
    Emptied result = Emptied::kNotYet;
    const char *subscriptions = nullptr;  // for which nothing is left
    uint64 moved = 0;
    pg::BeginTransaction();
    const bool may_truncate = MayTruncate(database, segment);
    if (done[segment].since != 0 && !may_truncate) {
        // There is nothing to do but wait.
    } else if (const Emptied locked = LockSegment(segment); locked != Emptied::kLocked) {
        result = locked;
    } else if (!TrustsTablesOf(segment)) {
        // Until an administrator has taken away what is on them: herald.status() tells.
        result = Emptied::kHeldByOthers;
    } else if (may_truncate && std::strcmp(done[segment].subscriptions, ListSubscriptions()) == 0) {
        // A new subscription might begin with what is there.
        TruncateSegment(segment);
        result = Emptied::kYes;
    } else if (WorkersHaveTasksOf(segment)) {
        result = Emptied::kHeldByWorkers;
    } else if (SubscriptionsAreLeaving()) {
        result = Emptied::kHeldByOthers;
    } else {
        subscriptions = ListSubscriptions();
        moved = MoveLeftovers(segment, IsHalfFull(database));
        // Before the lock is let go: who reads a message after it sees that its address may be wrong.
        if (moved > 0) pg_atomic_fetch_add_u32(&database->log.moves, 1);
        if (moved == 0 && may_truncate) {
            TruncateSegment(segment);
            result = Emptied::kYes;
        }
    }
    if (subscriptions != nullptr) subscriptions = MemoryContextStrdup(TopMemoryContext, subscriptions);
    pg::CommitTransaction();
    if (moved > 0) {
        // The dispatcher has the addresses of what was moved: it begins anew.
        RaiseFlag(database, kFlagMoved);
        WakeConsumer(database, Consumer::kDispatcher);
    }
    if (result == Emptied::kYes)
        ClearDone(segment);
    else if (subscriptions != nullptr)
        SetDone(segment, subscriptions);
    if (subscriptions != nullptr) pfree(const_cast<char *>(subscriptions));
    return result;
}

void ShowHeld(DatabaseShared *database, Emptied result, int segment, TimestampTz now) {
    if (result == Emptied::kYes)
        pg_atomic_write_u64(&database->log.held_since, 0);
    else if (pg_atomic_read_u64(&database->log.held_since) == 0 &&
             (result != Emptied::kNotYet || now - done[segment].since > kNextTry))
        pg_atomic_write_u64(&database->log.held_since, static_cast<uint64>(now));
}

// Tries to empty a segment; returns when to try again, or DT_NOEND: it is empty.
TimestampTz EmptyOrRetry(DatabaseShared *database, int segment) {
    TimestampTz now = GetCurrentTimestamp();
    if (IsAhead(next_try, now, kNextTry)) return next_try;
    Emptied result = Empty(database, segment);
    now = GetCurrentTimestamp();
    ShowHeld(database, result, segment, now);
    // Workers that go on with tasks of the segment would hold it for ever; those that run their last one won't.
    const bool last_ones = result == Emptied::kHeldByWorkers && OthersAreDrained();
    if (result == Emptied::kHeldByWorkers && !last_ones &&
        (stop_began == 0 || !HasPassed(stop_began, now, kLongestStop))) {
        if (stop_began == 0) SetDealing(database, false);
        return now + kStep;
    }
    if (stop_began != 0) SetDealing(database, true);
    const bool soon = result == Emptied::kYes || last_ones || result == Emptied::kNotYet || IsHalfFull(database);
    if (soon) try_interval = kSoon;
    if (result == Emptied::kYes) return DT_NOEND;
    next_try = now + try_interval;
    if (!soon) try_interval = Min(2 * try_interval, kNextTry);
    return next_try;
}

}  // namespace

void ResumeRotation(DatabaseShared *database) {
    last_turn = GetCurrentTimestamp();
    // A predecessor's: what is written there may not be committed yet.
    if (pg_atomic_read_u32(&database->log.segment_known) != 0) return;
    int newest = 0;
    TimestampTz newest_first = DT_NOBEGIN;
    pg::BeginTransaction();
    for (int i = 0; i < pg::kSegments; i++) {
        TimestampTz first = FirstPublished(pg::Tables().log[i]);
        if (first == DT_NOEND || first <= newest_first) continue;
        newest = i;
        newest_first = first;
    }
    pg::CommitTransaction();
    pg_atomic_write_u32(&database->log.segment, static_cast<uint32>(newest));
    pg_atomic_write_u32(&database->log.segment_known, 1);
}

TimestampTz RotateLog(DatabaseShared *database) {
    const TimestampTz period = settings::rotation_period * USECS_PER_SEC;
    pg::BeginTransaction();
    int current = CurrentOf(database);
    MeasureLog(database);
    if (IsEmpty(Following(current)) && IsTime(current)) {
        current = Following(current);
        ClearDone(current);
        pg_atomic_write_u32(&database->log.segment, static_cast<uint32>(current));
        last_turn = GetCurrentTimestamp();
        began = DT_NOEND;
    }
    // What was written to a period ago at the latest: the oldest segment, and where nothing has been published
    // since, the one before the current. That one also where the log is full: publishers may be refused, so that the
    // current segment would never be large enough to be left.
    int due = -1;
    const int previous = Following(Following(current));
    if (!IsEmpty(Following(current)))
        due = Following(current);
    else if ((HasPassed(last_turn, GetCurrentTimestamp(), period) || IsFull(database) ||
              (IsHalfFull(database) && OthersAreDrained())) &&
             !IsEmpty(previous))
        due = previous;
    pg::CommitTransaction();
    const TimestampTz regular = GetCurrentTimestamp() + Min(period / 4, settings::sweep_interval * USECS_PER_SEC);
    return due < 0 ? regular : Min(regular, EmptyOrRetry(database, due));
}

void StopRotation(DatabaseShared *database) {
    if (stop_began != 0) SetDealing(database, true);
}

}  // namespace herald
