// What is left of a segment when it is emptied: tasks that are not settled. They are parked, with their
// payload, or become dead letters.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// In a transaction that holds the segment's exclusive lock, while no worker has a task of it and it is not
// written to any more. Settles all that is left in the segment. `half_full`: the log is on its way to
// herald.max_log_size, and channels with when_full = dead_letters give it up. Returns the number of tasks moved.
uint64 MoveLeftovers(int segment, bool half_full);

// Under the same lock.
void TruncateSegment(int segment);

}  // namespace herald
