// The dispatcher's hands: it starts workers, deals tasks to idle ones, and collects what they report.

//
// It owns containers of its own on the heap. An ERROR in the dispatcher ends the process, so that a
// destructor skipped by it leaves nothing behind.

#pragma once

#include "pg/pg.hpp"

#include <map>
#include <unordered_map>

#include "core/scheduler.hpp"
#include "dispatch/results.hpp"
#include "outbox/database.hpp"
#include "worker/slots.hpp"

extern "C" {
#include "postmaster/bgworker.h"
}

namespace herald {

class Pool {
public:
    Pool(DatabaseShared *database, core::Scheduler *scheduler, Results *results);

    // Takes over what workers of this database hold since before this dispatcher: the first thing a
    // dispatcher does, before the snapshot of its scan (see slots.hpp, the fence). Slots of an earlier
    // incarnation of the extension, whose ids mean nothing now, are only freed when they end.
    void AdoptSlots(Oid extension);

    // Reads reports and the slots of dead workers; ends workers whose handler ignores its timeout.
    void Collect(TimestampTz now);

    // Gives ready tasks to idle workers, starts workers for the others.
    void Deal(TimestampTz now);

    // When Collect or Deal has something to do without being woken; DT_NOEND: never.
    TimestampTz NextTime() const;

    // A subscription that Collect found to be held, or whose role can't run a worker: the tables
    // must be looked at. Cleared by reading.
    bool TakeReloadRequest();

private:
    // A worker being started: kept until its slot is taken or its start has failed.
    struct Start {
        BackgroundWorkerHandle *handle;
        uint32 generation;
        TimestampTz since;
    };
    struct RoleStarts {
        TimestampTz next_allowed = 0;            // not before
        int failures = 0;                        // in a row
        TimestampTz starved_since = DT_NOEND;    // DT_NOEND: it has what it needs
    };

    void CollectReport(int index, TimestampTz now);
    void CollectDead(int index, TimestampTz now);
    void CollectStart(int index, TimestampTz now);
    void CheckDeadline(int index, TimestampTz now);
    void Apply(const WorkerSlotShared &slot, TimestampTz now);
    void ReleaseOrReuse(int index);
    bool Assign(core::RoleId role, TimestampTz now);
    bool StartFor(core::RoleId role, TimestampTz now);
    bool MakeRoom(core::RoleId role, TimestampTz now);
    bool MustYield(core::RoleId role, TimestampTz now) const;
    int CountSlots(core::RoleId role, bool starting_only) const;
    void NoteTime(TimestampTz time);

    DatabaseShared *database_;
    Oid extension_ = InvalidOid;
    core::Scheduler *scheduler_;
    Results *results_;
    std::unordered_map<int, Start> starts_;  // by slot
    std::map<core::RoleId, RoleStarts> roles_;
    // What the next worker of a task is to record instead of running it.
    std::map<std::pair<core::SubscriptionId, core::MessageId>, Order> orders_;
    TimestampTz next_time_ = DT_NOEND;
    bool reload_requested_ = false;
};

}  // namespace herald
