// The options of an audited table: what the caller says, checked, and in the form in which it is stored.

#pragma once

#include "audit/enrolment.hpp"
#include "pg/spi.hpp"

namespace herald {

struct CheckedOptions {
    const char *record;
    AuditOperations operations;
    ColumnList excluded;
    ColumnList masked;
    ColumnList hashed;
};

// ERRORs as of EnableAudit. The key's columns can be neither excluded nor masked.
CheckedOptions CheckOptions(Oid relation, const AuditOptions &options, const AttrNumber *key, int key_count);

// Parameters of statements.
pg::Param TextArray(const char *const *texts, int count);
pg::Param NumberArray(const AttrNumber *numbers, int count);
pg::Param OperationArray(const AuditOperations &operations);

}  // namespace herald
