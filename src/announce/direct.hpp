// Announcing by a NOTIFY of the publisher's own transaction: the way out where the announcer's queue has no
// room.

#pragma once

#include "outbox/outbox.hpp"

namespace herald {

// Sends the text, or for a stored message (no channel) a pointer to it; its payload may be a table read
// away. In a transaction, also in its pre-commit callback.
void AnnounceDirectly(const OutboxEntry &entry, const char *channel, const char *payload);

}  // namespace herald
