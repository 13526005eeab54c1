// The worker slots: how a dispatcher and a worker of its pool exchange tasks and results.
//
// The state says who owns the rest of the slot:
//
//   kFree      nobody               -> kStarting (a dispatcher, under the pool lock)
//   kStarting  the starting worker  -> kIdle (worker) | kFree (dispatcher: the start failed)
//   kIdle      nobody               -> kDealing (dispatcher) | kLeaving (worker, to exit)
//   kDealing   the dispatcher       -> kAssigned | kIdle | kFree (worker: it dies)
//   kAssigned  the worker           -> kRunning | kGone
//   kRunning   the worker           -> kReported | kGone
//   kReported  the dispatcher       -> kIdle (worker alive) | kFree (worker has exited since)
//              (a worker that is to leave, with no dispatcher to read its report, just exits)
//   kGone      the dispatcher       -> kFree: the worker died holding a task
//   kLeaving   the worker           -> kFree (by its exit callback)
//
// The state stands in one word with the generation of the slot, so that a step meant for one use of the slot
// never hits the next one.
//
// The fence (exactly once): what a worker holds stands in its slot until its transaction has left the
// ProcArray and the dispatcher has taken note. A dispatcher that starts reads the slots first and takes
// its snapshot second. Where a worker died, the commit status of `xid` decides what became of the tasks.
//
// A slot carries a batch: tasks of one subscription that the worker runs one after the other, in one
// transaction. `progress` says how far it is. The worker begins a task by counting it there, and the
// dispatcher takes back the tasks not begun by lowering the end, so that each is one's or the other's.

#pragma once

#include "pg/pg.hpp"

#include "core/task.hpp"

extern "C" {
#include "port/atomics.h"
}

namespace herald {

inline constexpr int kMaxWorkerSlots = 256;

enum class SlotState : uint32 {
    kFree = 0,
    kStarting,
    kIdle,
    kDealing,
    kAssigned,
    kRunning,
    kReported,
    kGone,
    kLeaving,
};

// What a worker is to do with its tasks; all but kRun are for one task.
enum class Order : uint8 {
    kRun = 0,
    kRecordTimeout,  // the handler did not end after its timeout: record the failed attempt
    kRecordLoss,     // workers died while running it: record the failed attempts
    kRecordCrash,    // the server crashed while it ran: record the failed attempts
};

// What a worker's transaction means for a task, if it commits.
enum class Outcome : uint8 {
    kNotRun = 0,  // to be dealt again, as if it had never been
    kAlone,       // rolled back, uncharged: to be dealt again, alone
    kLocked,      // rolled back, uncharged: somebody has locked what is to be written; the subscription rests
    kNone,        // nothing could be recorded: to be dealt again later, uncharged
    kDone,
    kRetry,      // failed; parked until next_attempt_at
    kDead,       // failed for the last time
    kMissing,    // the message or its subscription is gone: nothing to do
    kMoved,      // the message is not where it was (VACUUM FULL): all addresses must be read again
    kHeld,       // a fault of definition: the subscription is held, the task not charged
    kOtherRole,  // not run: the subscription runs as another role by now; it must be read again
};

// A task in a slot.
struct SlotTask {
    // Written by the dispatcher in kDealing.
    core::Task task;
    // Written by the dispatcher in kDealing (kNotRun), and by the worker before its commit; read when the
    // state is kReported, or kGone and `xid` committed.
    Outcome outcome;
    int32 attempts;  // failed attempts so far, this one included
    TimestampTz next_attempt_at;
    int64 latency;  // microseconds from publication to the start of the handler
};

// How far a worker is with its batch.
struct Progress {
    uint32 begun;     // tasks that the worker has begun: the last of them runs, or was the last to run
    uint32 end;       // tasks that it may begin
    bool committing;  // no task runs any more
};

struct WorkerSlotShared {
    // The generation, counted up at each claim, and a SlotState in the lowest byte: see SlotWord.
    pg_atomic_uint64 word;

    // Written by the dispatcher when it claims the slot, under the pool lock; then immutable.
    Oid database;
    Oid role;

    // Written by the worker itself at start and exit.
    pg_atomic_uint32 pid;   // 0: no process
    pg_atomic_uint32 proc;  // proc number + 1
    // Set by anyone who needs the slot or the database, cleared when the slot is claimed.
    pg_atomic_uint32 evict;

    // Written by the dispatcher.
    uint32 tasks_dealt;  // to this worker

    // Written by the dispatcher in kDealing.
    Oid extension;  // whose ids these are: a new CREATE EXTENSION starts counting anew
    Order order;
    TimestampTz dealt_at;
    uint32 moves;  // DatabaseShared::moves when the dispatcher began to read addresses
    // Set by the dispatcher in kDealing, then changed by both: a Progress in one word.
    pg_atomic_uint32 progress;
    SlotTask tasks[core::kMaxBatch];
    // Written by the dispatcher while kRunning: when it lost patience and ended the worker, and which task
    // it was to blame (its place, from 1).
    TimestampTz ended_at;
    uint32 ended_for;

    // Written by the worker: when the process was ready.
    TimestampTz ready_at;
    // Written by the worker while kRunning. 0 where it has not begun yet (set by the dispatcher).
    TimestampTz started_at;  // of the attempt that runs
    TimestampTz deadline;    // of the attempt that runs; DT_NOEND: none
    // Written by the worker before its commit, for the size of the next batches.
    int64 duration;        // microseconds that the handlers took together
    bool trouble;          // tasks were kept back for the sake of others
    int unrecorded;        // the SQLSTATE for which nothing can be recorded, whatever the task (a full disk); 0: none
    pg_atomic_uint32 xid;  // of the transaction that settles the tasks
};

static_assert(std::is_standard_layout_v<WorkerSlotShared>);

// A slot's generation and state, read at one moment.
struct SlotWord {
    uint64 generation;
    SlotState state;
};

WorkerSlotShared *WorkerSlot(int index);
// One more than the highest slot ever used: no loop needs to look further.
int WorkerSlotLimit();

// Claims a free slot for a worker of (database, role); -1 where herald.max_workers are in use.
int ClaimWorkerSlot(Oid database, Oid role);
int WorkerSlotsInUse();
// Asks idle workers of a database to leave (DROP DATABASE and the like).
void EvictIdleWorkers(Oid database);
// The same of a role in a database; InvalidOid: of any. Busy ones end after the tasks that they have. Safe in a commit callback.
void EvictWorkersOf(Oid database, Oid role);
// Asks one idle worker of another (database, role) to make room. False: none is idle. `spare_last`: the only
// worker of its role stays warm.
bool EvictOneIdleWorker(Oid for_database, Oid for_role, bool spare_last);

SlotWord WordOf(const WorkerSlotShared *slot);
Progress ProgressOf(const WorkerSlotShared *slot);
// The dispatcher, in kDealing: none of `count` tasks has been begun.
void StartProgress(WorkerSlotShared *slot, uint32 count);
// The worker: begins the next task; its place, from 0, or -1 where there is none.
int BeginTask(WorkerSlotShared *slot);
// The worker: the last task has run.
void BeginCommit(WorkerSlotShared *slot);
// The dispatcher: takes back the tasks that were not begun, but at least the first. They are those from
// `from` to before `to`.
struct Recalled {
    uint32 from;
    uint32 to;
};
Recalled RecallTasks(WorkerSlotShared *slot);
// The task that runs, or will be the first to.
const core::Task &TaskOf(const WorkerSlotShared *slot);

inline SlotState StateOf(const WorkerSlotShared *slot) { return WordOf(slot).state; }
// One legal step of the state; false where the slot was no longer as `from` says. A full barrier: what was
// written to the slot before is seen by whoever sees the new state.
bool ChangeState(WorkerSlotShared *slot, SlotWord from, SlotState to);
void WakeWorker(WorkerSlotShared *slot);

Size WorkerSlotMemory();
void InitWorkerSlots();

// Tasks of the subscription that workers of this database hold now.
int CountRunning(int32 subscription_id);

}  // namespace herald
