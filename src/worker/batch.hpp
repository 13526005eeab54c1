// A batch: the tasks that a worker was dealt together run one after the other in one transaction, each in a
// subtransaction, and commit together with the record that they are settled.

#pragma once

#include "registry/slots.hpp"

namespace herald {

// Runs the tasks in the slot to their end and fills in their outcomes. No ERROR leaves it; a FATAL may.
void RunBatch(WorkerSlotShared *slot);

}  // namespace herald
