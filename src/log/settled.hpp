// The settled tables: which log entries of a segment need no more work for a subscription.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// Adds one row for `count` messages of one log segment, in the current transaction. Any role may cause
// it: the row is written directly, without privilege checks.
void WriteSettled(int segment, int32 subscription_id, const int64 *message_ids, int count);

}  // namespace herald
