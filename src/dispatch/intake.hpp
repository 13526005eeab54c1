// How the dispatcher learns of messages: from the outbox while it keeps up, from the tables after a
// start, a change of subscriptions, or where the outbox had no room.

#pragma once

#include "core/scheduler.hpp"
#include "outbox/outbox.hpp"

namespace herald {

// Takes the committed entries of the outbox. In a transaction with an active snapshot, which is replaced; a prepared
// transaction that has not ended stays where it is.
// Entries of an earlier incarnation of the extension are dropped.
// False: the tables are to be read before the next one is taken, for what came before it.
bool TakeFromOutbox(DatabaseShared *database, Oid extension, core::Scheduler *scheduler);

// Reads settled tables, parked tasks and the log under the active snapshot.
void ScanAll(core::Scheduler *scheduler);

// Reads the parked tasks only.
void ScanParked(core::Scheduler *scheduler);

}  // namespace herald
