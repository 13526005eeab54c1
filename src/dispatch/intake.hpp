// How the dispatcher learns of messages: from the outbox while it keeps up, from the tables after a
// start, a change of subscriptions, or where the outbox had no room.

#pragma once

#include "core/scheduler.hpp"
#include "outbox/outbox.hpp"

namespace herald {

// Takes the committed entries of the outbox. In a transaction with an active snapshot; entries of a prepared
// transaction that has not ended for that snapshot stay where they are.
// Entries of an earlier incarnation of the extension are dropped.
void TakeFromOutbox(DatabaseShared *database, Oid extension, core::Scheduler *scheduler);

// Reads settled tables, parked tasks and the log under the active snapshot.
void ScanAll(core::Scheduler *scheduler);

// Reads the parked tasks only.
void ScanParked(core::Scheduler *scheduler);

}  // namespace herald
