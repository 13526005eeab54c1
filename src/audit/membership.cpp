// Changes of an audited table's row and tree that come from commands of others; see enrolment.hpp.

#include "pg/pg.hpp"

#include "audit/enrolment.hpp"
#include "change/table_tree.hpp"
#include "pg/as_owner.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "storage/lock.h"
#include "utils/inval.h"
}

namespace herald {

namespace {

void UpdateTarget(const char *sql, int32 id) {
    pg::AsOwner([&] { (void)pg::SpiRun(sql, std::array{pg::Int4(id)}); });
    InvalidateAuditTargets();
}

void ForgetMembers(const Oid *tree, int count) {
    for (int i = 0; i < count; i++) CacheInvalidateRelcacheByRelid(tree[i]);
    InvalidateAuditTargets();
}

}  // namespace

bool EnrolMember(const StoredTarget &target, Oid member) {
    const TriggerSet set = AuditTriggers(target.operations);
    int count;
    bool changed = false;
    const Oid *tree = LockTree(member, ShareRowExclusiveLock, &count);
    for (int i = 0; i < count; i++) {
        if (FindTriggerProblem(tree[i], set) == nullptr) continue;
        EnsureMemberTriggers(target.relation, tree[i], set);
        changed = true;
    }
    ForgetMembers(tree, count);
    return changed;
}

bool DismissMember(Oid member) {
    int count;
    const Oid *tree = LockTree(member, ShareRowExclusiveLock, &count);
    const bool changed = RemoveTriggers(tree, count, "herald_audit");
    ForgetMembers(tree, count);
    return changed;
}

void SetDisturbed(const StoredTarget &target, bool disturbed) {
    UpdateTarget(disturbed ? "UPDATE herald_internal.audit_target SET disturbed = true WHERE id = $1"
                           : "UPDATE herald_internal.audit_target SET disturbed = false WHERE id = $1",
                 target.id);
}

void ForgetTarget(const StoredTarget &target) {
    UpdateTarget(
        "UPDATE herald_internal.audit_target SET relation = 0, enabled = false, disturbed = false"
        " WHERE id = $1",
        target.id);
}

}  // namespace herald
