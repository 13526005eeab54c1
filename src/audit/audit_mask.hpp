// What stands in the trail instead of a masked value.

#pragma once

#include "audit/audit_target.hpp"
#include "change/json_value.hpp"
#include "pg/pg.hpp"

namespace herald {

// "***", or "hmac:" with 32 hex digits of a hash of the value, keyed with the target's salt: equal values of a
// table have equal ones, and nobody can try out which value it was.
JEntry AppendMasked(JsonBuffer *buffer, const AuditTarget &target, ColumnTreatment treatment,
                    const Conversion &conversion, Datum value);

}  // namespace herald
