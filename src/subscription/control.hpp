// Stopping and resuming a subscription.

#pragma once

#include "pg/transaction_part.hpp"

namespace herald {

// Pauses the subscription when the transaction commits. With `wait` (microseconds, negative: do not
// wait) nothing more is dealt at once, and the call returns when no task runs or the time is over.
// True: none runs.
bool PauseSubscription(const char *name, int64 wait);

// Ends a pause or a hold.
void ResumeSubscription(const char *name);

extern const pg::TransactionPart kPauseRequestsPart;

}  // namespace herald
