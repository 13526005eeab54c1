// What the dispatcher writes down for people to see: counters and gauges in shared memory.

#pragma once

#include "pg/pg.hpp"

#include <unordered_map>

#include "core/scheduler.hpp"
#include "registry/database.hpp"
#include "stats/subscription_counters.hpp"
#include "registry/slots.hpp"

namespace herald {

class DispatchGauges {
public:
    explicit DispatchGauges(Oid database) : database_(database) {}

    // Which channel a subscription's results are counted for, too. False where it was not known, and what was read of
    // it may be older than a pause.
    bool SetChannel(core::SubscriptionId subscription, const char *channel, Oid owner);
    // The subscription is gone.
    void Forget(core::SubscriptionId subscription);

    // Counts what became of a task's run, once it is taken from the worker's slot; `failures`: attempts that were
    // recorded as failed. The subscription is known by then, or gone.
    void Count(core::SubscriptionId subscription, Outcome outcome, int failures, int64 latency);

    // Shows how much work waits and runs, for every subscription and of all together.
    void ShowGauges(DatabaseShared *database, const core::Scheduler &scheduler) const;

    // Before the subscriptions are read: which pauses what is read knows of.
    void NotePauses();

    // True where herald.pause(..., wait) wants the subscription to stop before its transaction commits, or has
    // wanted it since the subscriptions were read last.
    bool PauseRequested(core::SubscriptionId subscription) const;

private:
    struct ChannelOf {
        char name[NAMEDATALEN];
        int slot;                    // of channel_counters.hpp
        SubscriptionShared *shared;  // NULL: there was no place
        uint32 pauses;               // that began before the subscriptions were read
    };

    SubscriptionShared *SharedOf(core::SubscriptionId subscription, const ChannelOf &channel) const;

    Oid database_;
    std::unordered_map<core::SubscriptionId, ChannelOf> channels_;
};

}  // namespace herald
