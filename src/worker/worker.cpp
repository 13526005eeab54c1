// A worker: connected to one database as one role for all its life, it runs the tasks that the
// dispatcher of that database puts into its slot, one after the other.

#include "outbox/database.hpp"
#include "pg/guard.hpp"
#include "pg/process.hpp"
#include "settings.hpp"
#include "worker/attempt.hpp"
#include "worker/processes.hpp"
#include "worker/slots.hpp"

extern "C" {
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
}

namespace herald {

namespace {

WorkerSlotShared *own_slot = nullptr;

void WakeOwnDispatcher() {
    DatabaseShared *database = FindDatabase(own_slot->database);
    if (database != nullptr) WakeConsumer(database, Consumer::kDispatcher);
}

// Runs when the process ends, after its transaction was aborted or committed and before another
// process can see it gone: leaves the slot in a state that says what became of the task.
void LeaveSlot(int, Datum) {
    pg_atomic_write_u32(&own_slot->pid, 0);
    pg_atomic_write_u32(&own_slot->proc, 0);
    pg_memory_barrier();
    // Starting: the dispatcher sees by its handle that the process is gone. Reported: it frees the
    // slot when it has read the report.
    if (ChangeState(own_slot, SlotState::kIdle, SlotState::kFree) ||
        ChangeState(own_slot, SlotState::kLeaving, SlotState::kFree) ||
        ChangeState(own_slot, SlotState::kAssigned, SlotState::kGone) ||
        ChangeState(own_slot, SlotState::kRunning, SlotState::kGone)) {
        // One of them was it; the order covers a dispatcher that assigns at this moment.
    }
    WakeOwnDispatcher();
}

// Sleeps until there may be something to do; false where the idle time-out has come. Statistics are
// flushed once nothing more comes: at every task it would cost more than a small task itself.
bool SleepIdle() {
    long timeout = settings::worker_idle_timeout * 1000L;
    long first = Min(timeout, 1000L);
    if (pg::SleepOnLatch(first)) return true;
    pgstat_report_stat(true);
    return timeout > first && pg::SleepOnLatch(timeout - first);
}

void RunWorker(int index, uint32 generation) {
    own_slot = WorkerSlot(index);
    if (StateOf(own_slot) != SlotState::kStarting || own_slot->generation != generation)
        proc_exit(0);  // started too late: the dispatcher has given up on this start
    on_shmem_exit(LeaveSlot, static_cast<Datum>(0));
    pg::InitProcess(pg::CancelSignal::kCancelsStatement);
    pg::ConnectToDatabase(own_slot->database, own_slot->role);
    HOLD_CANCEL_INTERRUPTS();  // let go only while a handler runs

    own_slot->started_at = GetCurrentTimestamp();
    pg_atomic_write_u32(&own_slot->proc, static_cast<uint32>(pg::OwnProcNumber()) + 1);
    pg_atomic_write_u32(&own_slot->pid, static_cast<uint32>(MyProcPid));
    pgstat_report_activity(STATE_IDLE, nullptr);
    if (!ChangeState(own_slot, SlotState::kStarting, SlotState::kIdle)) proc_exit(0);
    WakeOwnDispatcher();

    for (;;) {
        if (ChangeState(own_slot, SlotState::kAssigned, SlotState::kRunning)) {
            RunAttempt(own_slot);
            ChangeState(own_slot, SlotState::kRunning, SlotState::kReported);
            WakeOwnDispatcher();
        }
        if (StateOf(own_slot) == SlotState::kAssigned) continue;
        bool woken = true;
        if (pg_atomic_read_u32(&own_slot->evict) == 0) woken = SleepIdle();
        bool leave = !woken || pg_atomic_read_u32(&own_slot->evict) != 0;
        if (leave && ChangeState(own_slot, SlotState::kIdle, SlotState::kLeaving)) proc_exit(0);
        if (leave && StateOf(own_slot) != SlotState::kAssigned) (void)pg::SleepOnLatch(10);
    }
}

}  // namespace

}  // namespace herald

void herald_worker_main(Datum argument) {
    herald::pg::Guard([&] {
        uint32 generation;
        std::memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
        herald::RunWorker(DatumGetInt32(argument), generation);
    });
}
