// Pool, second half: which worker gets which task, and which role gets a worker. See pool.hpp.
//
// Fairness: while a role waits for its first worker, a role gives up workers beyond its share, and where
// there are fewer workers than roles, the roles take turns of a time slice. A worker is never sent
// away before it has run a task.

#include "dispatch/pool.hpp"
#include "pg/process.hpp"
#include "settings.hpp"
#include "subscription/role_check.hpp"
#include "process/processes.hpp"

namespace herald {

namespace {

constexpr TimestampTz kShortWait = USECS_PER_SEC / 200;
// A role that waits longer than this for its first worker is starved.
constexpr TimestampTz kPatience = USECS_PER_SEC / 5;
// How long a new dispatcher lets the announcer go first.
constexpr TimestampTz kAnnouncerFirst = 2 * USECS_PER_SEC;
// What a worker may work for its role before it has to make room for a starved one.
constexpr TimestampTz kTimeSlice = USECS_PER_SEC / 2;

// Whether the role can run workers; the reason is the announcer's business.
bool MayRunWorkers(core::RoleId role) {
    int sqlstate;
    pg::BeginTransaction();
    bool may = RoleProblem(role, "", &sqlstate) == nullptr;
    pg::CommitTransaction();
    return may;
}

}  // namespace

int Pool::CountSlots(core::RoleId role, bool starting_only) const {
    int count = 0;
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        const WorkerSlotShared *slot = WorkerSlot(i);
        SlotState state = StateOf(slot);
        if (!IsOwn(slot, state) || slot->role != role) continue;
        if (!starting_only || state == SlotState::kStarting) count++;
    }
    return count;
}

Pool::Competition Pool::LookAround(TimestampTz now) const {
    Competition others;
    for (const auto &[role, state] : roles_) {
        if (state.starved_since != DT_NOEND && now - state.starved_since > kPatience)
            others.waiting++;
        else if (CountSlots(role, false) > 0)
            others.served++;
    }
    others.waiting += StarvedElsewhere(database_);
    return others;
}

// True where the idle worker has to make room for somebody who waits. `own`: workers of its role.
bool Pool::MustYield(const WorkerSlotShared &slot, int own, const Competition &others, TimestampTz now) const {
    if (others.waiting == 0 || slot.tasks_dealt == 0) return false;
    int share = settings::max_workers / Max(1, others.served + others.waiting);
    if (own > Max(share, 1)) return true;
    return share == 0 && now - slot.ready_at > kTimeSlice;
}

// Deals a batch to an idle worker; `idle`: how many of the role there are. False: there is nothing to deal.
bool Pool::Assign(WorkerSlotShared *slot, SlotWord word, core::RoleId role, std::size_t idle, TimestampTz now) {
    if (recording_.OneTask()) {
        // Its report says whether more can be recorded.
        const TimestampTz next = AnyUnderWay() ? recording_.NextTry() : now;
        NoteTime(next);
        if (next > now) return false;
        recording_.NoteTry(now);
    }
    // Nothing is written before the slot is surely ours: it may have got another worker meanwhile.
    if (!ChangeState(slot, word, SlotState::kDealing)) return true;
    word.state = SlotState::kDealing;
    std::vector<core::Task> batch = scheduler_->Take(role, now, idle);
    if (batch.empty()) {
        (void)ChangeState(slot, word, SlotState::kIdle);
        return false;
    }
    slot->extension = extension_;
    slot->order = OrderFor(batch.front());
    if (recording_.OneTask())
        while (batch.size() > 1) {
            const core::Task &task = batch.back();
            scheduler_->Return(task.subscription, task.message.id, task.losses, task.alone);
            batch.pop_back();
        }
    for (std::size_t i = 0; i < batch.size(); i++)
        slot->tasks[i] = {batch[i], Outcome::kNotRun, batch[i].attempts, DT_NOBEGIN, 0};
    StartProgress(slot, static_cast<uint32>(batch.size()));
    slot->dealt_at = now;
    slot->moves = moves_;
    slot->started_at = 0;
    slot->deadline = DT_NOEND;
    slot->ended_at = DT_NOEND;
    slot->duration = 0;
    slot->trouble = false;
    slot->unrecorded = 0;
    slot->tasks_dealt += static_cast<uint32>(batch.size());
    pg_atomic_write_u32(&slot->xid, InvalidTransactionId);
    if (!ChangeState(slot, word, SlotState::kAssigned)) {
        // The worker died at this moment.
        for (const core::Task &task : batch)
            scheduler_->Return(task.subscription, task.message.id, task.losses, task.alone);
        return true;
    }
    WakeWorker(slot);
    // Nobody wakes us to watch over the deadline.
    NoteTime(now + USECS_PER_SEC);
    return true;
}

// A task with an order of its own is alone: it is the first of its batch, or in none.
Order Pool::OrderFor(const core::Task &task) const {
    if (suspects_.IsGuilty(task.subscription, task.message.id)) return Order::kRecordCrash;
    auto trouble = troubles_.find({task.subscription, task.message.id});
    return trouble == troubles_.end() ? Order::kRun : trouble->second.order;
}

std::size_t Pool::CountIdle(core::RoleId role) const {
    std::size_t count = 0;
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        const SlotState state = StateOf(slot);
        if (state == SlotState::kIdle && IsOwn(slot, state) && slot->role == role &&
            pg_atomic_read_u32(&slot->evict) == 0)
            count++;
    }
    return count;
}

// After herald.max_workers was lowered: workers without a task leave, others once they have none.
void Pool::ShedSurplus() {
    int surplus = WorkerSlotsInUse() - settings::max_workers;
    for (int i = 0; surplus > 0 && i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        SlotState state = StateOf(slot);
        if (!IsOwn(slot, state) || state != SlotState::kIdle) continue;
        pg_atomic_write_u32(&slot->evict, 1);
        WakeWorker(slot);
        surplus--;
    }
}

// Deals the role's ready tasks to its idle workers; returns how many workers more could start.
std::size_t Pool::AssignIdle(const core::Scheduler::RoleDemand &demand, const Competition &others, TimestampTz now) {
    std::size_t left = demand.workers;
    std::size_t idle = CountIdle(demand.role);
    if (idle == 0) return left;
    int own = others.waiting > 0 ? CountSlots(demand.role, false) : 0;
    for (int i = 0; left > 0 && idle > 0 && i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        SlotWord word = WordOf(slot);
        if (word.state != SlotState::kIdle || !IsOwn(slot, word.state) || slot->role != demand.role ||
            pg_atomic_read_u32(&slot->evict) != 0)
            continue;
        if (MustYield(*slot, own, others, now)) {
            pg_atomic_write_u32(&slot->evict, 1);
            WakeWorker(slot);
            own--;
            idle--;
            continue;
        }
        if (!Assign(slot, word, demand.role, idle, now)) return 0;
        idle--;
        left--;
    }
    return left == 0 ? 0 : scheduler_->DemandOf(demand.role, now);
}

bool Pool::StartFor(core::RoleId role, TimestampTz now) {
    RoleState &state = roles_[role];
    // Where processes are scarce the announcer comes first: it needs only one.
    if (!ConsumerRuns(database_, Consumer::kAnnouncer) && now - began_ < kAnnouncerFirst) {
        NoteTime(now + kAnnouncerFirst / 100);
        return false;
    }
    if (now < state.next_start) {
        NoteTime(state.next_start);
        return false;
    }
    if (!MayRunWorkers(role)) {
        // The announcer puts the role's subscriptions on hold, with the reason.
        state.next_start = now + USECS_PER_SEC;
        NoteTime(state.next_start);
        RaiseFlag(database_, kFlagReloadAnnouncer);
        WakeConsumer(database_, Consumer::kAnnouncer);
        return false;
    }
    int index = ClaimWorkerSlot(database_->database, role);
    if (index < 0) {
        bool none = CountSlots(role, false) == 0;
        if (none) ShowProblem(StartProblem::kNoSlot);
        // The room is there as soon as the worker has left; it wakes only the dispatcher it had.
        if (EvictOneIdleWorker(database_->database, role, !none))
            NoteTime(now + kShortWait);
        else if (none)
            NoteTime(now + kPatience);
        return false;
    }
    WorkerSlotShared *slot = WorkerSlot(index);
    SlotWord word = WordOf(slot);
    BackgroundWorkerHandle *handle = StartWorker(index, word.generation);
    if (handle == nullptr) {
        (void)ChangeState(slot, word, SlotState::kFree);
        ShowProblem(StartProblem::kNoWorkerProcess);
        // Often the postmaster has only not noticed yet that a worker has left.
        state.next_start = now + Min(kShortWait << Min(state.refusals, 10), USECS_PER_SEC);
        state.refusals++;
        NoteTime(state.next_start);
        return false;
    }
    starts_[index] = {handle, word.generation};
    state.refusals = 0;
    ShowProblem(StartProblem::kNone);
    return true;
}

bool Pool::MayDeal(core::SubscriptionId subscription, TimestampTz now) {
    auto rest = rests_.find(subscription);
    const TimestampTz until =
        Max(suspects_.RestsUntil(subscription, now), rest == rests_.end() ? 0 : rest->second.until);
    if (until <= now) return true;
    NoteTime(until);
    return false;
}

void Pool::ShowProblem(StartProblem problem) {
    pg_atomic_write_u32(&database_->dispatcher.start_problem, static_cast<uint32>(problem));
    // Once, however often it comes and goes.
    static bool told = false;
    if (problem != StartProblem::kNoWorkerProcess || told) return;
    told = true;
    ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                      errmsg("no background process is free for a worker of pg_herald: tasks wait"),
                      errdetail("max_worker_processes is %d.", max_worker_processes),
                      errhint("Raise max_worker_processes and restart the server.")));
}

bool Pool::AnyUnderWay() const {
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        const WorkerSlotShared *slot = WorkerSlot(i);
        const SlotState state = StateOf(slot);
        if (IsOwn(slot, state) && state != SlotState::kStarting && state != SlotState::kIdle &&
            state != SlotState::kLeaving)
            return true;
    }
    return false;
}

void Pool::Deal(TimestampTz now) {
    if (const TimestampTz until = recording_.RestsUntil(now); until != 0) {
        NoteTime(until);
        return;
    }
    suspects_.TryNext(now);
    // What it waits for may be that a subscription is resumed, or done with its rest.
    if (suspects_.AnyLeft()) NoteTime(now + USECS_PER_SEC);
    std::vector<core::Scheduler::RoleDemand> demands = scheduler_->Demand(now);
    Competition others = LookAround(now);
    uint32 starved = 0;
    bool lacking = false;  // a ready task has no worker of its role

    ShedSurplus();

    // First what is there, then what is missing: a worker that just came up for one role must not
    // look idle to another.
    for (core::Scheduler::RoleDemand &demand : demands) demand.workers = AssignIdle(demand, others, now);
    for (auto &[role, state] : roles_) {
        bool ready = false;
        for (const core::Scheduler::RoleDemand &demand : demands)
            ready = ready || (demand.role == role && demand.workers > 0);
        if (!ready) state.starved_since = DT_NOEND;
    }
    for (const core::Scheduler::RoleDemand &demand : demands) {
        std::size_t left = demand.workers;
        if (left == 0) continue;
        int own = CountSlots(demand.role, false);
        int share = settings::max_workers / Max(1, others.served + others.waiting);
        std::size_t starting = static_cast<std::size_t>(CountSlots(demand.role, true));
        left = left > starting ? left - starting : 0;
        while (left > 0 && (others.waiting == 0 || own < Max(share, 1)) && StartFor(demand.role, now)) {
            left--;
            own++;
        }
        lacking = lacking || own == 0;
        RoleState &state = roles_[demand.role];
        if (own > 0)
            state.starved_since = DT_NOEND;
        else if (state.starved_since == DT_NOEND)
            state.starved_since = now;
        if (state.starved_since != DT_NOEND) {
            NoteTime(state.starved_since + kPatience + 1);
            if (now - state.starved_since > kPatience) starved++;
        }
    }
    if (!lacking) ShowProblem(StartProblem::kNone);
    SetStarved(database_, starved);
}

}  // namespace herald
