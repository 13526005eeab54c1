// How far a subscription is, and waiting for it.

#pragma once

#include "subscription/subscription.hpp"

namespace herald {

struct OpenTasks {
    int64 pending;  // in the log and not settled: waiting or running
    int64 parked;   // waiting for another attempt
    int64 dead;     // dead letters
};

// What the tables say, as this transaction sees them.
OpenTasks CountOpenTasks(const Subscription &subscription);

// Waits until the subscription has nothing left to do, at most `timeout` microseconds. True: nothing is.
bool WaitIdle(const char *name, int64 timeout);

}  // namespace herald
