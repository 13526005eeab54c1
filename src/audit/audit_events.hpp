// What happens to the trail itself (auditing is switched on or off, a trigger is dropped, a partition
// comes), as entries of the trail.

#pragma once

#include "audit/audit_target.hpp"
#include "pg/spi.hpp"

namespace herald {

struct AuditEvent {
    AuditOperation operation;
    int32 target_id;  // 0: of the trail as a whole
    const char *schema_name;
    const char *table_name;
    pg::Param old_detail;  // jsonb or NULL
    pg::Param new_detail;
};

// Writes it as part of the current transaction, in the name of the current user.
void WriteAuditEvent(const AuditEvent &event);

}  // namespace herald
