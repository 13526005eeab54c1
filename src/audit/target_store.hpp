// The rows of herald_internal.audit_target as they are stored.

#pragma once

#include "audit/audit_target.hpp"

namespace herald {

// Some columns of the audited table, by name and by number. Which of the two rules, see StoredTarget.
struct ColumnList {
    int count;
    const char **names;
    AttrNumber *numbers;
};

struct StoredTarget {
    int32 id;
    bool enabled;
    bool disturbed;
    // The row was written in this database: oids and numbers are right. Else the names are.
    bool in_place;
    Oid relation;  // looked up by name where not in place; InvalidOid: it is gone
    const char *schema_name;
    const char *table_name;
    AuditRecord record;
    AuditOperations operations;
    ColumnList excluded;
    ColumnList masked;
    ColumnList hashed;
    const uint8 *salt;
    int salt_length;
};

// All rows, those of tables that are no longer audited included, in the current context. Without a
// privilege check, as of now whatever snapshot the transaction has. Nothing where the extension is not there.
StoredTarget *ReadStoredTargets(int *count);

// The current numbers of a list's columns; InvalidAttrNumber for one that is gone.
AttrNumber *ColumnNumbers(const StoredTarget &target, const ColumnList &list);

// NULL where there is no such column any more.
const char *ColumnName(Oid relation, AttrNumber number);

// The nearest target at or above the relation that is audited now, or NULL.
const StoredTarget *FindEnrolled(Oid relation, const StoredTarget *targets, int count);

// This database, as the rows name it.
const char *OwnSystemIdentifier();

}  // namespace herald
