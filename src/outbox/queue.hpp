// The publisher's side of the queues of the outbox; see cells.hpp for their memory.

#pragma once

#include "outbox/cells.hpp"

namespace herald {

// Links a chain to a queue. Safe in a commit or abort callback. Returns the number of its (last)
// transaction in the announcer's queue.
uint64 LinkChain(DatabaseShared *database, Consumer consumer, OutboxChain *chain);

// True while an announcement of a transaction up to that number may be in the announcer's queue.
bool MayBeQueued(DatabaseShared *database, uint64 publisher);

// Unlinks the announcements of a session, prepared ones excepted, and appends them to `chain`. False, and
// nothing done, while the announcer may be announcing one of them.
bool TakeBack(DatabaseShared *database, int32 session, OutboxChain *chain);

}  // namespace herald
