// The dispatcher's hands: it collects what workers report (collect.cpp), deals tasks to idle workers and
// starts new ones (deal.cpp).
//
// It owns containers of its own on the heap. An ERROR in the dispatcher ends the process, so that a
// destructor skipped by it leaves nothing behind.

#pragma once

#include "pg/pg.hpp"

#include <map>
#include <unordered_map>
#include <vector>

#include "core/scheduler.hpp"
#include "dispatch/recording.hpp"
#include "dispatch/gauges.hpp"
#include "dispatch/suspects.hpp"
#include "registry/database.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "postmaster/bgworker.h"
}

namespace herald {

class Pool {
public:
    Pool(DatabaseShared *database, core::Scheduler *scheduler, DispatchGauges *gauges)
        : database_(database),
          scheduler_(scheduler),
          gauges_(gauges),
          suspects_(database->database, scheduler),
          recording_(database) {}

    // Workers being started come up without it, and are found by their slots.
    ~Pool() {
        for (auto &[slot, start] : starts_) pfree(start.handle);
    }
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    // Takes over what workers of this database hold since before this dispatcher: the first thing a
    // dispatcher does, before the snapshot of its scan (see slots.hpp, the fence). Slots of an earlier
    // incarnation of the extension, whose ids mean nothing now, are only freed when they end.
    void AdoptSlots(Oid extension);

    // What is suspected of having crashed the server waits aside from the first scan on.
    void SetSuspectsAside() { suspects_.SetAside(extension_); }
    bool OneAtATime(core::SubscriptionId subscription) const { return suspects_.OneAtATime(subscription); }
    // Takes over the tasks that may have crashed the server: after the first scan, before Deal.
    void TakeOverSuspects(TimestampTz now) { suspects_.TakeOver(extension_, now); }
    // False where the subscription rests: after a crash, or while somebody has locked what its tasks write.
    bool MayDeal(core::SubscriptionId subscription, TimestampTz now);

    // Reads reports and the slots of dead workers; ends workers whose handler ignores its timeout.
    void Collect(TimestampTz now);

    // Gives ready tasks to idle workers, starts workers for the others.
    void Deal(TimestampTz now);

    // When Collect or Deal has something to do without being woken; DT_NOEND: never.
    TimestampTz NextTime() const { return next_time_; }
    void NoteTime(TimestampTz time) {
        if (time < next_time_) next_time_ = time;
    }

    // A subscription that Collect found to be held, or a role that can't run workers: the tables must
    // be looked at. Cleared by reading.
    bool TakeReloadRequest();

    // A message was not where the scheduler has it: all addresses must be read again, by a new
    // dispatcher.
    bool AddressesAreStale() const { return stale_; }

private:
    using TaskKey = std::pair<core::SubscriptionId, core::MessageId>;

    // A worker being started: kept until its slot is taken or its start has failed.
    struct Start {
        BackgroundWorkerHandle *handle;
        uint64 generation;
    };
    struct RoleState {
        TimestampTz next_start = 0;            // not before
        int failures = 0;                      // starts that came to nothing, in a row
        int refusals = 0;                      // starts for which there was no process, in a row
        TimestampTz starved_since = DT_NOEND;  // has ready tasks and no worker; DT_NOEND: not so
    };
    // A task whose next run is out of the ordinary.
    struct Trouble {
        Order order = Order::kRun;  // what the next worker is to do
        int unrecorded = 0;         // runs in a row whose outcome could not be written
    };

    void CollectDead(WorkerSlotShared *slot, SlotWord word, TimestampTz now);
    void ReturnLost(const WorkerSlotShared &slot);
    void CollectStart(int index, SlotWord word, TimestampTz now);
    void ForgetEndedStarts();
    void CheckDeadline(WorkerSlotShared *slot, TimestampTz now);
    void Apply(const WorkerSlotShared &slot, TimestampTz now);
    void ApplyTask(const SlotTask &task, TimestampTz now);
    void Recall(WorkerSlotShared *slot, TimestampTz now);
    void Release(WorkerSlotShared *slot, SlotWord word);

    // A subscription that rests because somebody has locked its row.
    struct Rest {
        TimestampTz until;
        int times;  // in a row
    };

    void NoteLocked(core::SubscriptionId subscription, TimestampTz now);
    bool AnyUnderWay() const;

    // What Deal knows of the others while it deals.
    struct Competition {
        int waiting = 0;  // roles, here and in other databases, that have starved for too long
        int served = 0;   // roles here that have workers
    };
    Competition LookAround(TimestampTz now) const;
    bool MustYield(const WorkerSlotShared &slot, int own, const Competition &others, TimestampTz now) const;
    std::size_t AssignIdle(const core::Scheduler::RoleDemand &demand, const Competition &others, TimestampTz now);
    bool Assign(WorkerSlotShared *slot, SlotWord word, core::RoleId role, std::size_t idle, TimestampTz now);
    Order OrderFor(const core::Task &task) const;
    std::size_t CountIdle(core::RoleId role) const;
    bool StartFor(core::RoleId role, TimestampTz now);
    void ShedSurplus();
    void ShowProblem(StartProblem problem);
    int CountSlots(core::RoleId role, bool starting_only) const;
    bool IsOwn(const WorkerSlotShared *slot, SlotState state) const {
        return state != SlotState::kFree && slot->database == database_->database;
    }

    DatabaseShared *database_;
    Oid extension_ = InvalidOid;
    uint32 moves_ = 0;
    core::Scheduler *scheduler_;
    DispatchGauges *gauges_;
    std::unordered_map<int, Start> starts_;  // by slot
    std::map<core::RoleId, RoleState> roles_;
    std::map<TaskKey, Trouble> troubles_;
    std::map<core::SubscriptionId, Rest> rests_;
    Suspects suspects_;
    Recording recording_;
    TimestampTz next_time_ = DT_NOEND;
    TimestampTz began_ = 0;  // when this dispatcher started
    bool reload_requested_ = false;
    bool stale_ = false;
};

}  // namespace herald
