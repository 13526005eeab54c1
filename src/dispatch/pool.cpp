// See pool.hpp. Every step is cheap and waits for nothing; a step that can't be done now is tried again
// when a slot changes or at NextTime().

#include "dispatch/pool.hpp"

#include "pg/process.hpp"
#include "settings.hpp"
#include "worker/role_check.hpp"
#include "worker/processes.hpp"

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
constexpr TimestampTz kFirstStartDelay = 500 * INT64CONST(1000);
constexpr TimestampTz kLongestStartDelay = 60 * USECS_PER_SEC;
// A role that waits longer than this for a worker gets one from a role that has had its turn.
constexpr TimestampTz kStarvation = 200 * INT64CONST(1000);

// Whether the role can run workers; the reason is the announcer's business.
bool MayRunWorkers(core::RoleId role) {
    int sqlstate;
    pg::BeginTransaction();
    bool may = RoleProblem(role, "", &sqlstate) == nullptr;
    pg::CommitTransaction();
    return may;
}

}  // namespace

Pool::Pool(DatabaseShared *database, core::Scheduler *scheduler, Results *results)
    : database_(database), scheduler_(scheduler), results_(results) {}

void Pool::NoteTime(TimestampTz time) {
    if (time < next_time_) next_time_ = time;
}

TimestampTz Pool::NextTime() const { return next_time_; }

bool Pool::TakeReloadRequest() {
    bool requested = reload_requested_;
    reload_requested_ = false;
    return requested;
}

void Pool::AdoptSlots(Oid extension) {
    extension_ = extension;
    for (int i = 0; i < kMaxWorkerSlots; i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        SlotState state = StateOf(slot);
        if (state == SlotState::kFree || slot->database != database_->database) continue;
        if (slot->extension != extension) continue;
        if (state == SlotState::kAssigned || state == SlotState::kRunning ||
            state == SlotState::kReported || state == SlotState::kGone)
            scheduler_->AdoptRunning(slot->task);
    }
}

void Pool::Collect(TimestampTz now) {
    next_time_ = DT_NOEND;
    for (int i = 0; i < kMaxWorkerSlots; i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        SlotState state = StateOf(slot);
        if (state == SlotState::kFree || slot->database != database_->database) continue;
        switch (state) {
            case SlotState::kReported:
                CollectReport(i, now);
                break;
            case SlotState::kGone:
                CollectDead(i, now);
                break;
            case SlotState::kStarting:
                CollectStart(i, now);
                break;
            case SlotState::kRunning:
                CheckDeadline(i, now);
                break;
            default:
                break;
        }
    }
    for (auto start = starts_.begin(); start != starts_.end();) {
        const WorkerSlotShared *slot = WorkerSlot(start->first);
        bool over = StateOf(slot) != SlotState::kStarting ||
                    slot->generation != start->second.generation;
        if (over) {
            // It came up: the role may start the next one at once.
            roles_[slot->role].failures = 0;
            pfree(start->second.handle);
            start = starts_.erase(start);
        } else {
            ++start;
        }
    }
}

void Pool::Apply(const WorkerSlotShared &slot, TimestampTz now) {
    if (slot.extension != extension_) return;
    const core::Task &task = slot.task;
    core::MessageRef parked = task.message;
    parked.segment = core::kParkedSegment;

    orders_.erase({task.subscription, task.message.id});
    results_->Count(task.subscription, slot.outcome, slot.latency);
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
        case Outcome::kNone:
            // Nothing could be written (a full disk, say): not at once again.
            scheduler_->Retry(task.subscription, task.message, task.attempts, now + USECS_PER_SEC);
            break;
    }
}

void Pool::ReleaseOrReuse(int index) {
    WorkerSlotShared *slot = WorkerSlot(index);
    slot->ended_at = DT_NOEND;
    ChangeState(slot, SlotState::kReported, SlotState::kIdle);
    // Where the worker has exited since its report, its exit callback left the slot to us.
    if (pg_atomic_read_u32(&slot->pid) == 0)
        ChangeState(slot, SlotState::kIdle, SlotState::kFree);
    else if (pg_atomic_read_u32(&slot->evict) != 0)
        WakeWorker(slot);
}

void Pool::CollectReport(int index, TimestampTz now) {
    Apply(*WorkerSlot(index), now);
    ReleaseOrReuse(index);
}

void Pool::CollectDead(int index, TimestampTz now) {
    WorkerSlotShared *slot = WorkerSlot(index);
    TransactionId xid = pg_atomic_read_u32(&slot->xid);
    const core::Task task = slot->task;

    if (slot->extension != extension_) {
        FreeWorkerSlot(index);
        return;
    }
    if (slot->outcome != Outcome::kNone && TransactionIdIsValid(xid) && TransactionIdDidCommit(xid)) {
        // It died between its commit and its report.
        Apply(*slot, now);
    } else {
        auto key = std::make_pair(task.subscription, task.message.id);
        int losses = task.losses + 1;
        if (slot->ended_at != DT_NOEND)
            orders_[key] = Order::kRecordTimeout;
        else if (losses >= 2 && slot->order == Order::kRun)
            orders_[key] = Order::kRecordLoss;  // the handler may be what ends its workers
        scheduler_->Return(task.subscription, task.message.id, losses);
    }
    slot->ended_at = DT_NOEND;
    FreeWorkerSlot(index);
}

void Pool::CollectStart(int index, TimestampTz now) {
    WorkerSlotShared *slot = WorkerSlot(index);
    auto start = starts_.find(index);
    if (start == starts_.end()) {
        // Started by a predecessor of ours: its handle is gone, so only time can tell.
        if (now - slot->started_at > kStartPatience && pg_atomic_read_u32(&slot->pid) == 0)
            FreeWorkerSlot(index);
        else
            NoteTime(slot->started_at + kStartPatience);
        return;
    }
    pid_t pid;
    if (GetBackgroundWorkerPid(start->second.handle, &pid) != BGWH_STOPPED) {
        NoteTime(now + USECS_PER_SEC);
        return;
    }
    if (StateOf(slot) != SlotState::kStarting) return;  // it was quick: started and gone
    RoleStarts &role = roles_[slot->role];
    role.failures++;
    TimestampTz delay = kFirstStartDelay << Min(role.failures - 1, 10);
    role.next_allowed = now + Min(delay, kLongestStartDelay);
    pg_atomic_write_u32(&database_->start_problem, static_cast<uint32>(StartProblem::kFailed));
    reload_requested_ = true;  // perhaps the role can no longer run workers
    pfree(start->second.handle);
    starts_.erase(start);
    FreeWorkerSlot(index);
}

void Pool::CheckDeadline(int index, TimestampTz now) {
    WorkerSlotShared *slot = WorkerSlot(index);
    TimestampTz deadline = slot->deadline;
    if (deadline == DT_NOEND || deadline == 0) {
        // A worker that has just begun has not written it yet: look again soon enough.
        NoteTime(now + USECS_PER_SEC);
        return;
    }
    if (now < deadline + kGrace) {
        NoteTime(deadline + kGrace);
        return;
    }
    if (slot->ended_at == DT_NOEND) {
        pid_t pid = static_cast<pid_t>(pg_atomic_read_u32(&slot->pid));
        if (pid == 0) return;
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

int Pool::CountSlots(core::RoleId role, bool starting_only) const {
    int count = 0;
    for (int i = 0; i < kMaxWorkerSlots; i++) {
        const WorkerSlotShared *slot = WorkerSlot(i);
        SlotState state = StateOf(slot);
        if (state == SlotState::kFree || slot->database != database_->database) continue;
        if (slot->role != role) continue;
        if (!starting_only || state == SlotState::kStarting) count++;
    }
    return count;
}

// True where this role has more workers than its share while another one, of this database or of
// another, waits for its first.
bool Pool::MustYield(core::RoleId role, TimestampTz now) const {
    int waiting = 0;
    int served = 0;
    for (const auto &[other, starts] : roles_) {
        if (other == role) continue;
        if (starts.starved_since != DT_NOEND && now - starts.starved_since > kStarvation) waiting++;
        if (CountSlots(other, false) > 0) served++;
    }
    Oid databases[kMaxDatabases];
    int count = ListDatabases(databases, kMaxDatabases);
    for (int i = 0; i < count; i++) {
        if (databases[i] == database_->database) continue;
        DatabaseShared *other = FindDatabase(databases[i]);
        if (other != nullptr && pg_atomic_read_u32(&other->starved) > 0) waiting++;
    }
    if (waiting == 0) return false;
    int share = settings::max_workers / (1 + served + waiting);
    return CountSlots(role, false) > share;
}

bool Pool::Assign(core::RoleId role, TimestampTz now) {
    for (int i = 0; i < kMaxWorkerSlots; i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        if (StateOf(slot) != SlotState::kIdle || slot->database != database_->database ||
            slot->role != role || pg_atomic_read_u32(&slot->evict) != 0)
            continue;
        if (MustYield(role, now)) {
            pg_atomic_write_u32(&slot->evict, 1);
            WakeWorker(slot);
            continue;
        }
        std::optional<core::Task> task = scheduler_->Take(role, now);
        if (!task.has_value()) return false;
        slot->task = *task;
        slot->extension = extension_;
        auto order = orders_.find({task->subscription, task->message.id});
        slot->order = order == orders_.end() ? Order::kRun : order->second;
        slot->dealt_at = now;
        slot->deadline = 0;
        slot->ended_at = DT_NOEND;
        slot->outcome = Outcome::kNone;
        pg_atomic_write_u32(&slot->xid, InvalidTransactionId);
        if (!ChangeState(slot, SlotState::kIdle, SlotState::kAssigned)) {
            // The worker is leaving at this moment.
            scheduler_->Return(task->subscription, task->message.id, task->losses);
            continue;
        }
        WakeWorker(slot);
        return true;
    }
    return false;
}

bool Pool::MakeRoom(core::RoleId role, TimestampTz now) {
    RoleStarts &starts = roles_[role];
    if (starts.starved_since == DT_NOEND) starts.starved_since = now;
    pg_atomic_write_u32(&database_->start_problem, static_cast<uint32>(StartProblem::kNoSlot));
    return CountSlots(role, false) == 0 && EvictOneIdleWorker(database_->database, role);
}

bool Pool::StartFor(core::RoleId role, TimestampTz now) {
    RoleStarts &starts = roles_[role];
    if (now < starts.next_allowed) {
        NoteTime(starts.next_allowed);
        return false;
    }
    if (!MayRunWorkers(role)) {
        // The announcer puts the role's subscriptions on hold, with the reason.
        starts.next_allowed = now + USECS_PER_SEC;
        RaiseFlag(database_, kFlagReloadAnnouncer);
        WakeConsumer(database_, Consumer::kAnnouncer);
        NoteTime(starts.next_allowed);
        return false;
    }
    int index = ClaimWorkerSlot(database_->database, role);
    if (index < 0) {
        MakeRoom(role, now);
        NoteTime(now + kStarvation);
        return false;
    }
    WorkerSlotShared *slot = WorkerSlot(index);
    BackgroundWorkerHandle *handle = StartWorker(index, slot->generation);
    if (handle == nullptr) {
        FreeWorkerSlot(index);
        pg_atomic_write_u32(&database_->start_problem,
                            static_cast<uint32>(StartProblem::kNoWorkerProcess));
        starts.next_allowed = now + USECS_PER_SEC;
        NoteTime(starts.next_allowed);
        return false;
    }
    starts_[index] = {handle, slot->generation, now};
    starts.starved_since = DT_NOEND;
    pg_atomic_write_u32(&database_->start_problem, static_cast<uint32>(StartProblem::kNone));
    return true;
}

void Pool::Deal(TimestampTz now) {
    uint32 starved = 0;
    for (const core::Scheduler::RoleDemand &demand : scheduler_->Demand(now)) {
        std::size_t left = demand.tasks;
        while (left > 0 && Assign(demand.role, now)) left--;
        int starting = CountSlots(demand.role, true);
        if (left > static_cast<std::size_t>(starting)) left -= starting;
        else left = 0;
        while (left > 0 && !MustYield(demand.role, now) && StartFor(demand.role, now)) left--;
        RoleStarts &starts = roles_[demand.role];
        if (CountSlots(demand.role, false) > 0) starts.starved_since = DT_NOEND;
        if (starts.starved_since != DT_NOEND) starved++;
    }
    pg_atomic_write_u32(&database_->starved, starved);
}

}  // namespace herald
