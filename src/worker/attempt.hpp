// One attempt: run a task's handler in a subtransaction and commit its effects together with the record
// that the task is settled; or roll the subtransaction back and commit the record of the failure.

#pragma once

#include "worker/slots.hpp"

namespace herald {

// Runs the task in the slot to its end and fills in the slot's outcome. No ERROR leaves it; a
// FATAL may. Outcome kNone: nothing could be recorded, the task is to be tried again later.
void RunAttempt(WorkerSlotShared *slot);

// Forgets what the process remembers of subscriptions; from _PG_init.
void InitAttempts();

}  // namespace herald
