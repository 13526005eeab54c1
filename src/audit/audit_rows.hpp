// What an audited statement has changed, as rows of the trail.

#pragma once

#include "audit/audit_target.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "commands/trigger.h"
}

namespace herald {

// Writes the rows of an AFTER trigger for INSERT, UPDATE or DELETE, of a statement or of a row.
void AuditRows(const AuditTarget &target, TriggerData *trigger);

}  // namespace herald
