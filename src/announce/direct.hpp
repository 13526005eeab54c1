// Announcing by a NOTIFY of the publisher's own transaction: the way out where the announcer's queue has no
// room.

#pragma once

#include "outbox/outbox.hpp"

namespace herald {

// Sends the text, or a pointer where only a pointer will do. In a transaction, also in its pre-commit
// callback.
void AnnounceDirectly(const AnnouncementEntry &entry, const char *channel, const char *payload);

}  // namespace herald
