// Pool, first half: what became of the tasks that were dealt. See pool.hpp and worker/slots.hpp.

#include "dispatch/pool.hpp"
#include "settings.hpp"

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
    moves_ = pg_atomic_read_u32(&database_->log.moves);
    began_ = GetCurrentTimestamp();
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        SlotState state = StateOf(slot);
        if (!IsOwn(slot, state)) continue;
        // A predecessor ended while it dealt: nothing was handed over.
        if (state == SlotState::kDealing) (void)ChangeState(slot, WordOf(slot), SlotState::kIdle);
        if (slot->extension != extension) continue;
        if (state != SlotState::kAssigned && state != SlotState::kRunning && state != SlotState::kReported &&
            state != SlotState::kGone)
            continue;
        std::vector<core::Task> batch;
        const uint32 end = ProgressOf(slot).end;
        for (uint32 j = 0; j < end; j++) batch.push_back(slot->tasks[j].task);
        scheduler_->AdoptRunning(batch);
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
                Recall(slot, now);
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
    const Progress progress = ProgressOf(&slot);
    if (slot.unrecorded != 0) recording_.Note(slot.unrecorded, now);
    for (uint32 i = 0; i < progress.end; i++) ApplyTask(slot.tasks[i], now);
    if (progress.begun > 0)
        scheduler_->NoteBatch(slot.tasks[0].task.subscription, progress.begun, slot.duration,
                              settings::batch_time * INT64CONST(1000), slot.trouble);
}

void Pool::ApplyTask(const SlotTask &result, TimestampTz now) {
    const core::Task &task = result.task;
    const TaskKey key{task.subscription, task.message.id};
    core::MessageRef parked = task.message;
    parked.segment = core::kParkedSegment;

    if (result.outcome > Outcome::kNone) {
        if (!troubles_.empty()) troubles_.erase(key);
        if (!rests_.empty()) rests_.erase(task.subscription);
        if (result.outcome != Outcome::kMissing && result.outcome != Outcome::kMoved) recording_.Note(0, now);
    }
    suspects_.NoteOutcome(task.subscription, task.message.id, result.outcome);
    gauges_->Count(task.subscription, result.outcome, result.attempts - task.attempts, result.latency);
    switch (result.outcome) {
        case Outcome::kNotRun:
            scheduler_->Return(task.subscription, task.message.id, task.losses, task.alone);
            break;
        case Outcome::kAlone:
            scheduler_->Return(task.subscription, task.message.id, task.losses, true);
            break;
        case Outcome::kLocked:
            scheduler_->Return(task.subscription, task.message.id, task.losses, task.alone);
            NoteLocked(task.subscription, now);
            break;
        case Outcome::kDone:
        case Outcome::kDead:
        case Outcome::kMissing:
            scheduler_->Finish(task.subscription, task.message.id);
            break;
        case Outcome::kRetry:
            scheduler_->Retry(task.subscription, parked, result.attempts, result.next_attempt_at);
            break;
        case Outcome::kOtherRole:
        case Outcome::kHeld:
            scheduler_->SetRunnable(task.subscription, false);
            scheduler_->Return(task.subscription, task.message.id, task.losses, task.alone);
            reload_requested_ = true;
            break;
        case Outcome::kMoved:
            scheduler_->Return(task.subscription, task.message.id, task.losses, task.alone);
            stale_ = true;
            break;
        case Outcome::kNone: {
            // Nothing could be written (a full disk, say): later, and later still.
            Trouble &trouble = troubles_[key];
            TimestampTz delay = USECS_PER_SEC << Min(trouble.unrecorded, 6);
            trouble.unrecorded++;
            scheduler_->Retry(task.subscription, task.message, task.attempts, now + Min(delay, kLongestDelay), true);
            break;
        }
    }
}

// Each task of it would meet the same lock, and some of them after their handler has run.
void Pool::NoteLocked(core::SubscriptionId subscription, TimestampTz now) {
    Rest &rest = rests_[subscription];
    if (rest.until > now) return;
    rest.until = now + Min(USECS_PER_SEC << Min(rest.times, 6), kLongestDelay);
    rest.times++;
    scheduler_->SetRunnable(subscription, false);
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
    if (slot->extension != extension_) {
        // Its ids mean nothing any more.
    } else if (TransactionIdIsValid(xid) && TransactionIdDidCommit(xid)) {
        Apply(*slot, now);  // it died between its commit and its report
    } else {
        ReturnLost(*slot);
    }
    slot->ended_at = DT_NOEND;
    (void)ChangeState(slot, word, SlotState::kFree);
}

// What a worker held whose transaction has not committed. Only the task that ran can be what ended it.
void Pool::ReturnLost(const WorkerSlotShared &slot) {
    const Progress progress = ProgressOf(&slot);
    // At the commit of a batch it may have been any of them, which shows when they run alone.
    const bool any = progress.committing && progress.begun > 1;
    for (uint32 i = 0; i < progress.end; i++) {
        const core::Task &task = slot.tasks[i].task;
        if (i + 1 != progress.begun || any) {
            scheduler_->Return(task.subscription, task.message.id, task.losses,
                               task.alone || (any && i < progress.begun));
            continue;
        }
        const TaskKey key{task.subscription, task.message.id};
        // Where only a record was to be written, no handler ran.
        const int losses = task.losses + (slot.order == Order::kRun ? 1 : 0);
        if (slot.ended_at != DT_NOEND && slot.ended_for == progress.begun)
            troubles_[key].order = Order::kRecordTimeout;
        else if (losses >= 2 && slot.order == Order::kRun)
            troubles_[key].order = Order::kRecordLoss;  // the handler may be what ends its workers
        scheduler_->Return(task.subscription, task.message.id, losses, true);
    }
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

// A slow task must not keep those behind it in its batch from other workers.
void Pool::Recall(WorkerSlotShared *slot, TimestampTz now) {
    const Progress progress = ProgressOf(slot);
    if (slot->extension != extension_ || progress.committing || progress.end <= Max(progress.begun, 1)) return;
    const TimestampTz due = slot->dealt_at + 2 * settings::batch_time * INT64CONST(1000);
    if (now < due) {
        NoteTime(due);
        return;
    }
    const Recalled recalled = RecallTasks(slot);
    for (uint32 i = recalled.from; i < recalled.to; i++) {
        const core::Task &task = slot->tasks[i].task;
        scheduler_->Return(task.subscription, task.message.id, task.losses, task.alone);
    }
}

void Pool::CheckDeadline(WorkerSlotShared *slot, TimestampTz now) {
    const uint32 running = ProgressOf(slot).begun;
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
    // Another task may have begun meanwhile.
    if (slot->ended_at == DT_NOEND && pid != 0 && ProgressOf(slot).begun == running) {
        const core::Task &task = slot->tasks[running == 0 ? 0 : running - 1].task;
        ereport(LOG, (errcode(ERRCODE_QUERY_CANCELED), errmsg("terminating a worker whose handler ignores its timeout"),
                      errdetail("Subscription %d, message " INT64_FORMAT ", process %d.", task.subscription,
                                task.message.id, static_cast<int>(pid))));
        slot->ended_at = now;
        slot->ended_for = running;
        kill(pid, SIGTERM);
    }
    NoteTime(now + USECS_PER_SEC);
}

}  // namespace herald
