// Switching auditing on and off: the row of herald_internal.audit_target, the triggers of the table and of all below
// it, and the event in the trail. Only for the table's owner.

#pragma once

#include "audit/target_store.hpp"
#include "change/table_triggers.hpp"

namespace herald {

struct AuditOptions {
    const char *record;
    const char **exclude;
    int exclude_count;
    const char **mask;  // names, or hash:name
    int mask_count;
    const char **operations;
    int operation_count;
};

// Audits the table from now on, or changes the options. ERRORs: 42501 for others than the owner, 42809 for
// what is no table, 42703 for columns that are not there, 22023 for wrong options, 55000 where there is no key
// that `record` needs a table above or below is audited, or there is one above.
void EnableAudit(Oid relation, const AuditOptions &options);

// ERRORs: 42501, 42704 where the table is not audited.
void DisableAudit(Oid relation);

// The triggers that a target's options ask for.
TriggerSet AuditTriggers(const AuditOperations &operations);

// Brings names and numbers in the target's row up to date with the catalogs, and notes a new key.
void RefreshTarget(const StoredTarget &target);

// Makes a row that came from another database one of this one: from now on its numbers count.
void AdoptTarget(const StoredTarget &target);

// The tree below a partition or child that has come to the target: it gets its triggers. False: it had them.
bool EnrolMember(const StoredTarget &target, Oid member);

// The tree below one that has left, or that was dropped with it. False: there was nothing to take away.
bool DismissMember(Oid member);

// Marks the target: a trigger was dropped or disabled.
void SetDisturbed(const StoredTarget &target, bool disturbed);

// The table is gone. What was recorded stays.
void ForgetTarget(const StoredTarget &target);

}  // namespace herald
