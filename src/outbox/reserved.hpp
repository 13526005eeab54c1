// Announcements that are prepared long before they are made, and then made where nothing may fail: after a
// transaction has ended, or a session. Their cells are taken and filled when they are reserved.

#pragma once

#include "outbox/cells.hpp"

namespace herald {

// Takes the cells of an announcement for the current session's role. False where the outbox has no room for
// them. `payload` has at most 7999 bytes.
bool ReserveAnnouncement(DatabaseShared *database, const char *channel, const char *payload, int32 counters,
                         OutboxChain *chain);
// Gives it to the announcer. Safe in every callback, also after the session's last transaction.
void MakeReserved(DatabaseShared *database, OutboxChain *chain);

}  // namespace herald
