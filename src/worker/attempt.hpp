// One attempt: run a task's handler in a subtransaction of the batch's transaction, and note what it means
// if that commits: that the task is settled; or, where the handler failed, the record of the failure.

#pragma once

#include "pg/extension.hpp"
#include "registry/slots.hpp"

namespace herald {

// What the attempts of a transaction leave to be done at its end.
struct Settlement {
    bool writes;               // it must commit: there are outcomes that are its
    int count[pg::kSegments];  // of log entries that are settled
    int64 ids[pg::kSegments][core::kMaxBatch];
};

// How the batch goes on after an attempt.
enum class After {
    kGoOn,
    kStop,     // with no other task: what this one left would be seen by it
    kTrouble,  // the same, and smaller batches would be better
};

// Makes one attempt at the task at `place` of the slot, in a transaction with an active snapshot. `failure`
// is an error that the commit of the attempt itself raised: then only the record of it is written. Errors
// of the handler do not leave it, but for a conflict (40001) under a stricter isolation level, after which the transaction's
// snapshot is of no more use. All memory it needs is allocated in the current context.
After RunAttempt(WorkerSlotShared *slot, int place, ErrorData *failure, Settlement *settlement);

// The isolation level that the subscription's handlers run under. In a transaction.
int IsolationOf(int32 subscription);

// Forgets what the process remembers of subscriptions; from _PG_init.
void InitAttempts();

}  // namespace herald
