// What commands of others mean for the trail: new partitions are enrolled, names kept up to date, dropped or
// disabled triggers and dropped tables recorded; and the trail itself is not dropped unnoticed.

#pragma once

namespace herald {

// Called once per process, from _PG_init.
void InitAuditWatch();

}  // namespace herald
