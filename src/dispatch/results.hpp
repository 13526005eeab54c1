// What the dispatcher writes down for people to see: counters and gauges in shared memory.

#pragma once

#include "pg/pg.hpp"

#include <unordered_map>
#include <vector>

#include "core/scheduler.hpp"
#include "outbox/database.hpp"
#include "stats/subscription_counters.hpp"
#include "worker/slots.hpp"

namespace herald {

class Results {
public:
    explicit Results(Oid database) : database_(database) {}

    // Which channel a subscription's results are counted for, too.
    void SetChannel(core::SubscriptionId subscription, const char *channel, Oid owner);
    // The subscription is gone.
    void Forget(core::SubscriptionId subscription);

    // Counts what became of a task's run; `failures`: attempts that were recorded as failed.
    void Count(core::SubscriptionId subscription, Outcome outcome, int failures, int64 latency);

    // Counts what came before the subscription was known: a new dispatcher collects reports before it reads the tables.
    void CountEarly();

    // Shows how much work waits and runs, for every subscription and of all together.
    void ShowGauges(DatabaseShared *database, const core::Scheduler &scheduler) const;

    // True where herald.pause(..., wait) wants the subscription to stop before its transaction commits.
    bool PauseRequested(core::SubscriptionId subscription) const;

private:
    struct Channel {
        char name[NAMEDATALEN];
        int slot;                    // of channel_counters.hpp
        SubscriptionShared *shared;  // NULL: there was no place
    };

    struct Result {
        core::SubscriptionId subscription;
        Outcome outcome;
        int failures;
        int64 latency;
    };

    SubscriptionShared *SharedOf(core::SubscriptionId subscription, const Channel &channel) const;

    Oid database_;
    std::unordered_map<core::SubscriptionId, Channel> channels_;
    std::vector<Result> early_;
};

}  // namespace herald
