// A worker: connected to one database as one role for all its life, it runs the batches of tasks that the
// dispatcher of that database puts into its slot.

#include "registry/database.hpp"
#include "pg/guard.hpp"
#include "pg/process.hpp"
#include "settings.hpp"
#include "worker/batch.hpp"
#include "worker/batch_timer.hpp"
#include "worker/crash_file.hpp"
#include "process/processes.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
}

namespace herald {

namespace {

WorkerSlotShared *own_slot = nullptr;
uint64 own_generation = 0;

bool Step(SlotState from, SlotState to) { return ChangeState(own_slot, {own_generation, from}, to); }

void WakeOwnDispatcher() {
    DatabaseShared *database = FindDatabase(own_slot->database);
    if (database != nullptr) WakeConsumer(database, Consumer::kDispatcher);
}

// Runs when the process ends, after its transaction was aborted or committed and before another
// process can see it gone: leaves the slot in a state that says what became of the task.
void LeaveSlot(int, Datum) {
    NoteEnd();
    // A slot that was given up and claimed again is no longer ours.
    if (WordOf(own_slot).generation != own_generation) return;
    pg_atomic_write_u32(&own_slot->pid, 0);
    pg_atomic_write_u32(&own_slot->proc, 0);
    pg_memory_barrier();
    // Starting: the dispatcher sees by its handle that the process is gone. Reported: it frees the
    // slot when it has read the report. The order covers a dispatcher that assigns at this moment.
    (void)(Step(SlotState::kIdle, SlotState::kFree) || Step(SlotState::kLeaving, SlotState::kFree) ||
           Step(SlotState::kDealing, SlotState::kFree) || Step(SlotState::kAssigned, SlotState::kGone) ||
           Step(SlotState::kRunning, SlotState::kGone));
    WakeOwnDispatcher();
}

// Sleeps until there may be something to do; false where the idle time-out has come. Statistics are
// flushed once nothing more comes: at every task it would cost more than a small task itself.
bool SleepIdle() {
    long timeout = settings::worker_idle_timeout * 1000L;
    long first = Min(timeout, 1000L);
    if (pg::SleepOnLatch(first)) return true;
    pgstat_report_stat(true);
    // Its latch is reset, which may have been set at the very end of that time.
    if (StateOf(own_slot) != SlotState::kIdle || pg_atomic_read_u32(&own_slot->evict) != 0) return true;
    return timeout > first && pg::SleepOnLatch(timeout - first);
}

void RunWorker(int index, uint64 generation) {
    own_slot = WorkerSlot(index);
    own_generation = generation;
    SlotWord word = WordOf(own_slot);
    if (word.state != SlotState::kStarting || word.generation != generation)
        proc_exit(0);  // started too late: the dispatcher has given up on this start
    OpenNote(index);
    on_shmem_exit(LeaveSlot, static_cast<Datum>(0));
    pg::InitProcess(pg::CancelSignal::kWhenAllowed);
    pg::ConnectToDatabase(own_slot->database, own_slot->role);
    InitBatchTimer();

    own_slot->ready_at = GetCurrentTimestamp();
    pg_atomic_write_u32(&own_slot->proc, static_cast<uint32>(pg::OwnProcNumber()) + 1);
    pg_atomic_write_u32(&own_slot->pid, static_cast<uint32>(MyProcPid));
    pgstat_report_activity(STATE_IDLE, nullptr);
    if (!Step(SlotState::kStarting, SlotState::kIdle)) proc_exit(0);
    WakeOwnDispatcher();

    for (;;) {
        if (Step(SlotState::kAssigned, SlotState::kRunning)) {
            RunBatch(own_slot);
            (void)Step(SlotState::kRunning, SlotState::kReported);
            WakeOwnDispatcher();
        }
        if (StateOf(own_slot) == SlotState::kAssigned) continue;
        bool woken = true;
        if (pg_atomic_read_u32(&own_slot->evict) == 0) woken = SleepIdle();
        bool leave = !woken || pg_atomic_read_u32(&own_slot->evict) != 0;
        if (!leave) continue;
        if (Step(SlotState::kIdle, SlotState::kLeaving)) proc_exit(0);
        // The report stays for whoever reads it; nobody may, so don't wait for that.
        if (StateOf(own_slot) == SlotState::kReported) proc_exit(0);
        // The dispatcher deals to it at this moment.
        (void)pg::SleepOnLatch(1);
    }
}

}  // namespace

}  // namespace herald

void herald_worker_main(Datum argument) {
    herald::pg::Guard([&] {
        uint64 generation;
        std::memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
        herald::RunWorker(DatumGetInt32(argument), generation);
    });
}
