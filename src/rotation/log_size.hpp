// How much the log takes, and what herald.max_log_size says to it.
//
// What has left the log without having been handled counts, too: else a paused subscription would fill the
// disk through the parked table. Of that table what is in use counts, as free space in it is used again.

#pragma once

#include "registry/database.hpp"
#include "pg/pg.hpp"

namespace herald {

// Of a table's heap alone: 0 where it is empty.
uint64 HeapBytes(Oid table);

// Notes the size in shared memory, and logs when it passes half of the limit. In a transaction.
void MeasureLog(DatabaseShared *database);

// In bytes; 0: no limit.
uint64 LogLimit();

// At half of the limit, rotation gives up unhandled messages of channels with when_full => 'dead_letters'.
bool IsHalfFull(DatabaseShared *database);
// Publishers may be refused.
bool IsFull(DatabaseShared *database);

}  // namespace herald
