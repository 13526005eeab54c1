// Pool, first half: what became of the tasks that were dealt. See pool.hpp and worker/slots.hpp.

#include "dispatch/pool.hpp"

extern "C" {
#include "access/transam.h"
#include "miscadmin.h"
}

#include <csignal>

namespace herald {

namespace {

// How long a handler may go on after its timeout before its worker is terminated.
constexpr TimestampTz kGrace = 2 * USECS_PER_SEC;
// A start that has not come to anything by then is given up, where the handle is not ours.
constexpr TimestampTz kStartPatience = 30 * USECS_PER_SEC;
// When a task that was just dealt is looked at first: then its deadline is known.
constexpr TimestampTz kFirstLook = USECS_PER_SEC / 2;
constexpr TimestampTz kFirstStartDelay = USECS_PER_SEC / 2;
constexpr TimestampTz kLongestDelay = 60 * USECS_PER_SEC;

}  // namespace

bool Pool::TakeReloadRequest() {
    bool requested = reload_requested_;
    reload_requested_ = false;
    return requested;
}

void Pool::AdoptSlots(Oid extension) {
    extension_ = extension;
    began_ = GetCurrentTimestamp();
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        SlotState state = StateOf(slot);
        if (!IsOwn(slot, state)) continue;
        // A predecessor ended while it dealt: nothing was handed over.
        if (state == SlotState::kDealing) (void)ChangeState(slot, WordOf(slot), SlotState::kIdle);
        if (slot->extension != extension) continue;
        if (state == SlotState::kAssigned || state == SlotState::kRunning ||
            state == SlotState::kReported || state == SlotState::kGone)
            scheduler_->AdoptRunning(slot->task);
    }
}

void Pool::Collect(TimestampTz now) {
    next_time_ = DT_NOEND;
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        SlotWord word = WordOf(slot);
        if (!IsOwn(slot, word.state)) continue;
        switch (word.state) {
            case SlotState::kReported:
                Apply(*slot, now);
                Release(slot, word);
                break;
            case SlotState::kGone:
                CollectDead(slot, word, now);
                break;
            case SlotState::kStarting:
                CollectStart(i, word, now);
                break;
            case SlotState::kAssigned:
            case SlotState::kRunning:
                CheckDeadline(slot, now);
                break;
            default:
                break;
        }
    }
    ForgetEndedStarts();
}

void Pool::ForgetEndedStarts() {
    for (auto start = starts_.begin(); start != starts_.end();) {
        const WorkerSlotShared *slot = WorkerSlot(start->first);
        SlotWord word = WordOf(slot);
        if (word.state == SlotState::kStarting && word.generation == start->second.generation) {
            ++start;
            continue;
        }
        // It came up: the role may start the next one at once.
        auto role = roles_.find(slot->role);
        if (role != roles_.end()) role->second.failures = 0;
        pfree(start->second.handle);
        start = starts_.erase(start);
    }
}

void Pool::Apply(const WorkerSlotShared &slot, TimestampTz now) {
    if (slot.extension != extension_) return;
    const core::Task &task = slot.task;
    const TaskKey key{task.subscription, task.message.id};
    core::MessageRef parked = task.message;
    parked.segment = core::kParkedSegment;

    if (slot.outcome != Outcome::kNone) troubles_.erase(key);
    results_->Count(task.subscription, slot.outcome, slot.attempts - task.attempts, slot.latency);
    switch (slot.outcome) {
        case Outcome::kDone:
        case Outcome::kDead:
        case Outcome::kMissing:
            scheduler_->Finish(task.subscription, task.message.id);
            break;
        case Outcome::kRetry:
            scheduler_->Retry(task.subscription, parked, slot.attempts, slot.next_attempt_at);
            break;
        case Outcome::kHeld:
            scheduler_->SetRunnable(task.subscription, false);
            scheduler_->Return(task.subscription, task.message.id, task.losses);
            reload_requested_ = true;
            break;
        case Outcome::kMoved:
            scheduler_->Return(task.subscription, task.message.id, task.losses);
            stale_ = true;
            break;
        case Outcome::kNone: {
            // Nothing could be written (a full disk, say): later, and later still.
            Trouble &trouble = troubles_[key];
            TimestampTz delay = USECS_PER_SEC << Min(trouble.unrecorded, 6);
            trouble.unrecorded++;
            scheduler_->Retry(task.subscription, task.message, task.attempts,
                              now + Min(delay, kLongestDelay));
            break;
        }
    }
}

void Pool::Release(WorkerSlotShared *slot, SlotWord word) {
    slot->ended_at = DT_NOEND;
    if (!ChangeState(slot, word, SlotState::kIdle)) return;
    // Where the worker has exited since its report, its exit callback left the slot to us.
    if (pg_atomic_read_u32(&slot->pid) == 0)
        (void)ChangeState(slot, {word.generation, SlotState::kIdle}, SlotState::kFree);
    else if (pg_atomic_read_u32(&slot->evict) != 0)
        WakeWorker(slot);
}

void Pool::CollectDead(WorkerSlotShared *slot, SlotWord word, TimestampTz now) {
    TransactionId xid = pg_atomic_read_u32(&slot->xid);
    const core::Task task = slot->task;
    const TaskKey key{task.subscription, task.message.id};

    if (slot->extension != extension_) {
        // Its ids mean nothing any more.
    } else if (slot->outcome != Outcome::kNone && TransactionIdIsValid(xid) &&
               TransactionIdDidCommit(xid)) {
        Apply(*slot, now);  // it died between its commit and its report
    } else if (slot->started_at == 0) {
        scheduler_->Return(task.subscription, task.message.id, task.losses);  // it had not begun
    } else {
        int losses = task.losses + 1;
        if (slot->ended_at != DT_NOEND)
            troubles_[key].order = Order::kRecordTimeout;
        else if (losses >= 2 && slot->order == Order::kRun)
            troubles_[key].order = Order::kRecordLoss;  // the handler may be what ends its workers
        scheduler_->Return(task.subscription, task.message.id, losses);
    }
    slot->ended_at = DT_NOEND;
    (void)ChangeState(slot, word, SlotState::kFree);
}

void Pool::CollectStart(int index, SlotWord word, TimestampTz now) {
    WorkerSlotShared *slot = WorkerSlot(index);
    auto start = starts_.find(index);
    if (start == starts_.end() || start->second.generation != word.generation) {
        // Started by a predecessor of ours: its handle is gone, so only time can tell.
        if (now - slot->ready_at > kStartPatience && pg_atomic_read_u32(&slot->pid) == 0)
            (void)ChangeState(slot, word, SlotState::kFree);
        else
            NoteTime(slot->ready_at + kStartPatience);
        return;
    }
    pid_t pid;
    if (GetBackgroundWorkerPid(start->second.handle, &pid) != BGWH_STOPPED) {
        NoteTime(now + USECS_PER_SEC);
        return;
    }
    // It may have been quick: started and gone.
    if (!ChangeState(slot, word, SlotState::kFree)) return;
    RoleState &role = roles_[slot->role];
    role.failures++;
    role.next_start = now + Min(kFirstStartDelay << Min(role.failures - 1, 10), kLongestDelay);
    NoteTime(role.next_start);
    ShowProblem(StartProblem::kFailed);
    pfree(start->second.handle);
    starts_.erase(start);
}

void Pool::CheckDeadline(WorkerSlotShared *slot, TimestampTz now) {
    TimestampTz deadline = slot->deadline;
    if (slot->started_at == 0) {
        NoteTime(now + kFirstLook);
        return;
    }
    if (deadline == DT_NOEND) return;
    if (now < deadline + kGrace) {
        NoteTime(deadline + kGrace);
        return;
    }
    pid_t pid = static_cast<pid_t>(pg_atomic_read_u32(&slot->pid));
    if (slot->ended_at == DT_NOEND && pid != 0) {
        ereport(LOG, (errcode(ERRCODE_QUERY_CANCELED),
                      errmsg("terminating a worker whose handler ignores its timeout"),
                      errdetail("Subscription %d, message " INT64_FORMAT ", process %d.",
                                slot->task.subscription, slot->task.message.id,
                                static_cast<int>(pid))));
        slot->ended_at = now;
        kill(pid, SIGTERM);
    }
    NoteTime(now + USECS_PER_SEC);
}

}  // namespace herald
