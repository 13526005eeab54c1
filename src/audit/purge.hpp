// Taking entries out of the trail: on demand, and when their time is over. Nothing else may.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// Deletes what was recorded before a time, or all (NULL); returns how many entries. Leaves an event, unless
// all goes, and a line in the server's log.
int64 PurgeAuditLog(const TimestampTz *before);

// Empties the segments in which everything is older than herald.audit_retention, each in a transaction of
// its own. For a background process, outside of a transaction. One that somebody has locked waits for the next time.
void ApplyAuditRetention();

// True while one of these two runs: the guard of the segments lets it pass.
bool PurgingAuditLog();

}  // namespace herald
