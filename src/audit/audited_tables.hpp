// Whether what should be audited is.

#pragma once

#include "audit/target_store.hpp"

namespace herald {

// What keeps changes of the table, or of one below it, out of the trail, or NULL. partitions: how many are
// below it. Partitions are not locked.
const char *FindAuditProblem(const StoredTarget &target, int *partitions);

// True where the current user owns the table or may read the trail.
bool MaySeeTarget(const StoredTarget &target);

// True where the current user may read herald.audit_log.
bool MayReadAuditLog();

}  // namespace herald
