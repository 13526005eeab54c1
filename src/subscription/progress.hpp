// How far a subscription is, and stopping, resuming and waiting for it.

#pragma once

#include "pg/transaction_part.hpp"
#include "subscription/subscription.hpp"

namespace herald {

struct OpenTasks {
    int64 pending;  // in the log and not settled: waiting or running
    int64 parked;   // waiting for another attempt
    int64 dead;     // dead letters
};

// What the tables say, as this transaction sees them.
OpenTasks CountOpenTasks(const Subscription &subscription);

// Tasks of the subscription that workers of this database hold now.
int CountRunning(int32 subscription_id);

// Pauses the subscription when the transaction commits. With `wait` (microseconds, negative: do not
// wait) nothing more is dealt at once, and the call returns when no task runs or the time is over.
// True: none runs.
bool PauseSubscription(const char *name, int64 wait);

// Ends a pause or a hold.
void ResumeSubscription(const char *name);

// Waits until the subscription has nothing left to do, at most `timeout` microseconds. True: nothing is.
bool WaitIdle(const char *name, int64 timeout);

extern const pg::TransactionPart kPauseRequestsPart;

}  // namespace herald
