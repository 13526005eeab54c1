// See rotation.hpp.

#include "announce/rotation.hpp"

#include "announce/leftovers.hpp"
#include "announce/log_size.hpp"
#include "log/log_table.hpp"
#include "pg/compat.hpp"
#include "pg/extension.hpp"
#include "pg/process.hpp"
#include "pg/spi.hpp"
#include "settings.hpp"
#include "worker/slots.hpp"

extern "C" {
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

// How long no task is dealt so that the workers let go of a segment, and how long until the next try.
constexpr TimestampTz kLongestStop = USECS_PER_SEC / 2;
constexpr TimestampTz kNextTry = 10 * USECS_PER_SEC;
constexpr TimestampTz kStep = 10 * 1000;
// What is left of a log that is too large should not be turned over for a few messages.
constexpr uint64 kSmallest = 16 * 1024 * 1024;

TimestampTz stop_began = 0;  // tasks are not dealt since; 0: they are
TimestampTz next_try = 0;
TimestampTz last_turn = 0;

// When its oldest message was published: nearly, its first row is the oldest one. DT_NOEND: none is seen.
TimestampTz FirstPublished(Oid table) {
    TimestampTz first = DT_NOEND;
    Relation relation = table_open(table, AccessShareLock);
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

int CurrentOf(DatabaseShared *database) {
    return static_cast<int>(pg_atomic_read_u32(&database->segment));
}

bool IsEmpty(int segment) {
    return HeapBytes(pg::Tables().log[segment]) == 0 && HeapBytes(pg::Tables().settled[segment]) == 0;
}

bool IsTime(DatabaseShared *database, int current) {
    TimestampTz first = FirstPublished(pg::Tables().log[current]);
    if (first != DT_NOEND &&
        GetCurrentTimestamp() - first >= settings::rotation_period * USECS_PER_SEC)
        return true;
    return IsHalfFull(database) &&
           HeapBytes(pg::Tables().log[current]) > Min(kSmallest, LogLimit() / 8);
}

void SetDealing(DatabaseShared *database, bool dealing) {
    pg_atomic_write_u32(&database->dealing_stopped, dealing ? 0 : 1);
    WakeConsumer(database, Consumer::kDispatcher);
    stop_began = dealing ? 0 : GetCurrentTimestamp();
}

pg::Param OidParam(Oid oid) { return {OIDOID, ObjectIdGetDatum(oid), false}; }

// True where nobody but our workers keeps us from the segment: they will let go soon if they get no more of
// its tasks.
bool OnlyWorkersHold(int segment) {
    pg::SpiBegin();
    uint64 others = pg::SpiRun(
        "SELECT FROM pg_catalog.pg_locks AS l"
        " LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid"
        " WHERE l.locktype = 'relation' AND l.granted"
        " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
        " AND l.relation IN ($1, $2) AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
        " AND a.backend_type IS DISTINCT FROM 'pg_herald worker'",
        std::array{OidParam(pg::Tables().log[segment]), OidParam(pg::Tables().settled[segment])}, 1);
    pg::SpiEnd();
    return others == 0;
}

// True where a worker has a task of the segment, or had one of which the dispatcher has not taken note. Asked
// under the segment's lock: who gets one later finds that it is not there, and hands it back.
bool WorkersHaveTasksOf(int segment) {
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        const WorkerSlotShared *slot = WorkerSlot(i);
        const SlotState state = StateOf(slot);
        if (slot->database != MyDatabaseId ||
            (state != SlotState::kAssigned && state != SlotState::kRunning &&
             state != SlotState::kReported && state != SlotState::kGone))
            continue;
        const uint32 end = ProgressOf(slot).end;
        for (uint32 task = 0; task < end; task++)
            if (slot->tasks[task].task.message.segment == segment) return true;
    }
    return false;
}

enum class Emptied { kYes, kHeldByWorkers, kHeldByOthers };

Emptied Empty(DatabaseShared *database, int segment) {
    Emptied result = Emptied::kYes;
    uint64 moved = 0;
    pg::BeginTransaction();
    if (!ConditionalLockRelationOid(pg::Tables().log[segment], AccessExclusiveLock) ||
        !ConditionalLockRelationOid(pg::Tables().settled[segment], AccessExclusiveLock))
        result = OnlyWorkersHold(segment) ? Emptied::kHeldByWorkers : Emptied::kHeldByOthers;
    else if (WorkersHaveTasksOf(segment))
        result = Emptied::kHeldByWorkers;
    else
        moved = EmptySegment(segment, IsHalfFull(database));
    pg::CommitTransaction();
    if (moved > 0) {
        // The dispatcher has the addresses of what was moved: its successor reads them anew.
        RaiseFlag(database, kFlagMoved);
        WakeConsumer(database, Consumer::kDispatcher);
    }
    return result;
}

// Tries to empty a segment; returns when to try again, or DT_NOEND: it is empty.
TimestampTz EmptyOrRetry(DatabaseShared *database, int segment) {
    TimestampTz now = GetCurrentTimestamp();
    if (now < next_try) return next_try;
    Emptied result = Empty(database, segment);
    now = GetCurrentTimestamp();
    if (result == Emptied::kYes)
        pg_atomic_write_u64(&database->log_held_since, 0);
    else if (pg_atomic_read_u64(&database->log_held_since) == 0)
        pg_atomic_write_u64(&database->log_held_since, static_cast<uint64>(now));
    if (result == Emptied::kHeldByWorkers && (stop_began == 0 || now - stop_began < kLongestStop)) {
        if (stop_began == 0) SetDealing(database, false);
        return now + kStep;
    }
    if (stop_began != 0) SetDealing(database, true);
    if (result == Emptied::kYes) return DT_NOEND;
    next_try = now + kNextTry;
    return next_try;
}

}  // namespace

void ResumeRotation(DatabaseShared *database) {
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
    pg_atomic_write_u32(&database->segment, static_cast<uint32>(newest));
    last_turn = GetCurrentTimestamp();
}

TimestampTz RotateLog(DatabaseShared *database) {
    const TimestampTz period = settings::rotation_period * USECS_PER_SEC;
    pg::BeginTransaction();
    int current = CurrentOf(database);
    MeasureLog(database);
    if (IsEmpty(Following(current)) && IsTime(database, current)) {
        current = Following(current);
        pg_atomic_write_u32(&database->segment, static_cast<uint32>(current));
        last_turn = GetCurrentTimestamp();
    }
    // What was written to a period ago at the latest: the oldest segment, and where nothing has been published
    // since, the one before the current.
    int due = -1;
    const int previous = Following(Following(current));
    if (!IsEmpty(Following(current)))
        due = Following(current);
    else if (GetCurrentTimestamp() - last_turn >= period && !IsEmpty(previous))
        due = previous;
    TruncateParked();
    pg::CommitTransaction();
    const TimestampTz regular =
        GetCurrentTimestamp() + Min(period / 4, settings::sweep_interval * USECS_PER_SEC);
    return due < 0 ? regular : Min(regular, EmptyOrRetry(database, due));
}

void StopRotation(DatabaseShared *database) {
    if (stop_began != 0) SetDealing(database, true);
}

}  // namespace herald
