// Announcing by a NOTIFY of the publisher's own transaction: the way out where the announcer's queue has no
// room.

#pragma once

#include "outbox/outbox.hpp"

namespace herald {

// Sends a pointer to the message; the payload may be a table read away. In a transaction, also in its
// pre-commit callback.
void AnnounceDirectly(const OutboxEntry &entry);

}  // namespace herald
