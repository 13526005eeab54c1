// See audited_tables.hpp.

#include "pg/pg.hpp"

#include "audit/audited_tables.hpp"

#include "audit/enrolment.hpp"
#include "change/table_shape.hpp"
#include "change/table_tree.hpp"
#include "pg/extension.hpp"

extern "C" {
#include "access/table.h"
#include "storage/lmgr.h"
}

namespace herald {

namespace {

bool Hides(const StoredTarget &target, const ColumnList &list, AttrNumber number) {
    const AttrNumber *numbers = ColumnNumbers(target, list);
    for (int i = 0; i < list.count; i++)
        if (numbers[i] == number) return true;
    return false;
}

// Another column may have taken the place of one that is gone: what is in it would not be hidden.
const char *FindLostColumn(const StoredTarget &target, const ColumnList &list, const char *treatment) {
    const AttrNumber *numbers = ColumnNumbers(target, list);
    for (int i = 0; i < list.count; i++)
        if (ColumnName(target.relation, numbers[i]) == nullptr)
            return psprintf(
                "%s column \"%s\" was dropped: enroll the table again with the columns that are to be hidden",
                treatment, list.names[i]);
    return nullptr;
}

const char *FindKeyProblem(const StoredTarget &target) {
    AttrNumber key[INDEX_MAX_KEYS];
    const int count = FindKeyColumns(target.relation, key);
    if (count == 0 && target.record == AuditRecord::kDiff)
        return "it has no key any more, so rows are recorded in full";
    if (count == 0 && target.record == AuditRecord::kKeys)
        return "it has no key any more, so nothing tells which row was changed";
    for (int i = 0; i < count; i++)
        if (Hides(target, target.excluded, key[i]) || Hides(target, target.masked, key[i]) ||
            Hides(target, target.hashed, key[i]))
            return psprintf("key column \"%s\" is hidden, so nothing tells which row was changed",
                            ColumnName(target.relation, key[i]));
    return nullptr;
}

}  // namespace

const char *FindAuditProblem(const StoredTarget &target, int *partitions) {
    *partitions = 0;
    if (get_rel_name(target.relation) == nullptr) return "the table does not exist";
    const char *parent = ParentName(target.relation);
    if (parent != nullptr) return psprintf("statements that name table \"%s\" above it are not recorded", parent);
    const TriggerSet set = AuditTriggers(target.operations);
    int count;
    const Oid *tree = LockTree(target.relation, NoLock, &count);
    *partitions = count - 1;
    for (int i = 0; i < count; i++) {
        const char *problem = FindTriggerProblem(tree[i], set);
        if (problem == nullptr) continue;
        const char *name = get_rel_name(tree[i]);
        if (i == 0) return problem;
        if (name != nullptr) return psprintf("table \"%s\": %s", name, problem);
    }
    const char *problem = FindLostColumn(target, target.excluded, "excluded");
    if (problem == nullptr) problem = FindLostColumn(target, target.masked, "masked");
    if (problem == nullptr) problem = FindLostColumn(target, target.hashed, "hashed");
    return problem != nullptr ? problem : FindKeyProblem(target);
}

bool MayReadAuditLog() {
    const Oid log = get_relname_relid("audit_log", pg::Tables().schema);
    return OidIsValid(log) && pg_class_aclcheck(log, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

bool MaySeeTarget(const StoredTarget &target) {
    return (get_rel_name(target.relation) != nullptr && pg::OwnsRelation(target.relation, GetUserId())) ||
           MayReadAuditLog();
}

}  // namespace herald
