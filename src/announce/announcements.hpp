// Turning the announcements in the outbox into NOTIFYs.

#pragma once

#include "outbox/outbox.hpp"

namespace herald {

// Announces what is committed, many messages per transaction, until nothing is left or others of this
// process's duties are to have their turn: then `more`. False where NOTIFY refused (its queue is full): the
// announcements stay in the outbox, to be tried again.
bool Announce(DatabaseShared *database, bool *more);

}  // namespace herald
