// See batch.hpp.
//
// Everything that a transaction means is in the slot before its commit (outcomes, xid), so that whoever
// finds the slot after this process died can tell from the commit status alone what became of the tasks.

#include "worker/batch.hpp"

#include "log/settled.hpp"
#include "pg/process.hpp"
#include "tables/own_tables.hpp"
#include "worker/attempt.hpp"
#include "worker/batch_timer.hpp"
#include "worker/crash_file.hpp"
#include "process/session.hpp"

extern "C" {
#include "access/transam.h"
#include "access/xact.h"
#include "pgstat.h"
#include "storage/proc.h"
}

namespace herald {

namespace {

// Beyond 64 subtransactions with an id of their own, every snapshot of the server gets slower. Handlers
// have subtransactions, too.
constexpr int kManySubtransactions = 48;

// How often a task that has failed because of a conflict is run again at once, before that counts as an attempt.
constexpr int kMostConflicts = 5;

MemoryContext batch_context = nullptr;  // until the transaction has ended
MemoryContext task_context = nullptr;   // of one attempt

bool TooManySubtransactions() {
    return MyProc->subxidStatus.overflowed || MyProc->subxidStatus.count >= kManySubtransactions;
}

void RunTasks(WorkerSlotShared *slot, Settlement *settlement) {
    const TimestampTz started_at = GetCurrentTimestamp();
    After after = After::kGoOn;
    bool over = false;

    while (after == After::kGoOn && !over) {
        const int place = BeginTask(slot);
        if (place < 0) break;
        if (slot->order == Order::kRun) NoteBegun(static_cast<uint32>(place) + 1);
        MemoryContextSwitchTo(task_context);
        after = RunAttempt(slot, place, nullptr, settlement);
        MemoryContextSwitchTo(batch_context);
        MemoryContextReset(task_context);
        if (slot->tasks[place].outcome == Outcome::kAlone) slot->trouble = true;
        over = BatchTimeOver() || TooManySubtransactions();
    }
    BeginCommit(slot);
    NoteCommit();
    slot->duration = GetCurrentTimestamp() - started_at;
    const Progress progress = ProgressOf(slot);
    if (progress.begun < progress.end && after != After::kStop) slot->trouble = true;
}

// The end of the transaction, up to but not including its commit.
void WriteSettlement(WorkerSlotShared *slot, const Settlement &settlement) {
    for (int segment = 0; segment < pg::kSegments; segment++)
        if (settlement.count[segment] > 0)
            WriteSettled(segment, slot->tasks[0].task.subscription, settlement.ids[segment], settlement.count[segment]);
    // Assigned here at the latest, so that it is known before the commit.
    pg_write_barrier();
    pg_atomic_write_u32(&slot->xid, settlement.writes ? GetTopTransactionId() : GetTopTransactionIdIfAny());
}

enum class Run {
    kTasks,   // those of the slot
    kAgain,   // the first one, which has failed because of a conflict
    kRecord,  // only record that the first one has failed
};

// A handler's isolation level counts from the first snapshot on, so it must be known before: by a look in a transaction.
int isolation = XACT_READ_COMMITTED;

void BeginFor(const WorkerSlotShared *slot, Run run) {
    pg::BeginTransaction();
    isolation = run == Run::kRecord ? XACT_READ_COMMITTED : IsolationOf(slot->tasks[0].task.subscription);
    if (isolation == XACT_READ_COMMITTED) return;
    pg::CommitTransaction();
    pg::BeginTransaction(isolation);
}

// Runs one transaction; a copy of the error in batch_context where it failed.
ErrorData *TryTransaction(WorkerSlotShared *slot, Run run, ErrorData *failure = nullptr) {
    ErrorData *volatile error = nullptr;

    PG_TRY();
    {
        Settlement settlement = {};
        BeginFor(slot, run);
        MemoryContextSwitchTo(batch_context);
        // Before a handler runs whose outcome could not be recorded.
        RequireTaskTables();
        if (run == Run::kTasks)
            RunTasks(slot, &settlement);
        else
            (void)RunAttempt(slot, 0, failure, &settlement);
        WriteSettlement(slot, settlement);
        pg::CommitTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(batch_context);
        error = CopyErrorData();
        FlushErrorState();
        AbortCurrentTransaction();
        // An ERROR after the commit changes nothing about it.
        TransactionId xid = pg_atomic_read_u32(&slot->xid);
        if (TransactionIdIsValid(xid) && TransactionIdDidCommit(xid)) error = nullptr;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(batch_context);
    return error;
}

// A fault of what is around the tasks, that says nothing of them: the next one would meet it, too.
bool IsOfSurroundings(int sqlstate) {
    const int category = ERRCODE_TO_CATEGORY(sqlstate);
    return category == ERRCODE_INSUFFICIENT_RESOURCES || category == ERRCODE_SYSTEM_ERROR ||
           category == ERRCODE_OPERATOR_INTERVENTION;
}

// Once a minute at most: what lasts is tried again and again.
void LogUnrecorded(const WorkerSlotShared *slot, const ErrorData *error) {
    static TimestampTz last = 0;
    const TimestampTz now = GetCurrentTimestamp();
    if (last != 0 && now - last < USECS_PER_MINUTE) return;
    last = now;
    ereport(LOG, (errcode(error->sqlerrcode), errmsg("could not record the outcome of a task: %s", error->message),
                  errdetail("Subscription %d, message " INT64_FORMAT "; the task will be tried again.",
                            slot->tasks[0].task.subscription, slot->tasks[0].task.message.id)));
}

// Nothing of it has happened. Where not even a task was begun, none is to be tried again at once.
void NoteNothing(WorkerSlotShared *slot, Outcome outcome) {
    const Progress progress = ProgressOf(slot);
    const uint32 concerned = progress.begun > 0 ? progress.begun : progress.end;
    for (uint32 i = 0; i < concerned; i++) slot->tasks[i].outcome = progress.begun > 0 ? outcome : Outcome::kNone;
    pg_atomic_write_u32(&slot->xid, InvalidTransactionId);
}

// The handlers are out of it: their own errors end in their subtransactions. What is left is the commit (a
// deferred trigger) or our own writing.
void RunAgain(WorkerSlotShared *slot, ErrorData *error) {
    BeginCommit(slot);
    const bool alone = ProgressOf(slot).begun == 1;
    if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE) {
        LogUnrecorded(slot, error);
        NoteNothing(slot, Outcome::kLocked);
        return;
    }
    if (IsOfSurroundings(error->sqlerrcode)) {
        LogUnrecorded(slot, error);
        // One that fails of it by itself (too large for the memory, say) waits longer than others.
        NoteNothing(slot, alone ? Outcome::kNone : Outcome::kNotRun);
        slot->unrecorded = error->sqlerrcode;
        return;
    }
    if (!alone) {
        // Whose fault it is shows when they run alone.
        NoteNothing(slot, Outcome::kAlone);
        slot->trouble = true;
        return;
    }
    // The attempt is recorded if that is possible now.
    NoteNothing(slot, Outcome::kNone);
    ErrorData *second = TryTransaction(slot, Run::kRecord, error);
    if (second == nullptr) return;
    NoteNothing(slot, Outcome::kNone);
    if (IsOfSurroundings(second->sqlerrcode)) slot->unrecorded = second->sqlerrcode;
    LogUnrecorded(slot, second);
}

// Nobody is to blame for it, and the same task may well succeed with a newer snapshot.
bool IsConflict(const WorkerSlotShared &slot, const ErrorData &error) {
    return isolation != XACT_READ_COMMITTED && error.sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE &&
           ProgressOf(&slot).begun == 1;
}

}  // namespace

void RunBatch(WorkerSlotShared *slot) {
    if (batch_context == nullptr) {
        batch_context = AllocSetContextCreate(TopMemoryContext, "pg_herald batch", ALLOCSET_DEFAULT_SIZES);
        task_context = AllocSetContextCreate(batch_context, "pg_herald attempt", ALLOCSET_DEFAULT_SIZES);
    }
    slot->started_at = GetCurrentTimestamp();
    pg::LimitLockWaits();
    NoteBatch(*slot);
    // A task on its own has nobody to keep waiting.
    if (ProgressOf(slot).end > 1) StartBatchTimer();
    ErrorData *error = TryTransaction(slot, Run::kTasks);
    for (int conflicts = 1; error != nullptr && IsConflict(*slot, *error) && conflicts <= kMostConflicts; conflicts++) {
        NoteNothing(slot, Outcome::kNone);
        error = TryTransaction(slot, Run::kAgain);
    }
    StopBatchTimer();
    NoteEnd();
    if (error != nullptr) RunAgain(slot, error);
    pg::UnlimitLockWaits();
    CleanSessionAfterTransaction();
    pgstat_report_activity(STATE_IDLE, nullptr);
    MemoryContextSwitchTo(TopMemoryContext);
    MemoryContextResetOnly(batch_context);
    MemoryContextReset(task_context);
}

}  // namespace herald
