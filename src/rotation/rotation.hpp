// Rotation: the log is three tables, of which one is written to, one is kept, and one is empty or about to be
// emptied by TRUNCATE. So the space of what is done returns without a DELETE and without a VACUUM.
//
// Which segment is written to is a matter of convenience, not of correctness: a message is found in any. What
// makes emptying one safe is its exclusive lock, since whoever has written to it holds a lock on it until the
// end of the transaction; and the worker slots, in which each task stands until its transaction has ended.
// The lock is never waited for.
//
// Tasks of the segment that are not settled then (of paused subscriptions, of slow ones) move to the parked
// table, with their payload. Settled rows go with the segment they cover. That is the first step; the second, TRUNCATE,
// waits for snapshots that are older than the first, for a time.

#pragma once

#include "registry/database.hpp"
#include "pg/pg.hpp"

namespace herald {

// Finds the segment that was written to before a restart. By the announcer, at its start.
void ResumeRotation(DatabaseShared *database);

// Goes on to the next segment if it is time, and empties the oldest one if that is possible now. By the
// announcer, outside a transaction. Returns when it wants to be called again.
TimestampTz RotateLog(DatabaseShared *database);

// Lets tasks be dealt again, at the exit of the announcer.
void StopRotation(DatabaseShared *database);

}  // namespace herald
