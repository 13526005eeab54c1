// The trigger functions of audited tables. A statement's changes are recorded once: by the triggers of the table
// that it names, or, where they are replicated or session_replication_role is replica, by those of the rows.

#include "pg/pg.hpp"

#include "audit/audit_context.hpp"
#include "audit/audit_rows.hpp"
#include "audit/audit_target.hpp"
#include "audit/audit_writer.hpp"
#include "change/row_pairs.hpp"
#include "change/trigger_call.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "catalog/partition.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

constexpr const char *kMaker = "herald.enable_audit";

bool IsRecorded(const AuditTarget &target, RowChange change) {
    if (change == kInserted) return target.operations.insert;
    if (change == kUpdated) return target.operations.update;
    return target.operations.del;
}

Datum Record(FunctionCallInfo fcinfo, uint8 events, bool by_row) {
    TriggerData *trigger = ReadTriggerCall(fcinfo, {kMaker, events, by_row, 0});
    if (IsReplicating() != by_row) return static_cast<Datum>(0);
    const AuditTarget *target = TargetToRecord(RelationGetRelid(trigger->tg_relation));
    if (target != nullptr && IsRecorded(*target, ChangeOf(trigger))) AuditRows(*target, trigger);
    return static_cast<Datum>(0);
}

// The table that the running TRUNCATE has emptied last, of those that have something below them: its trigger
// fires before those of its partitions, for which it has spoken.
struct {
    TransactionId transaction;
    CommandId command;
    int32 target_id;
    Oid relation;
} truncated;

bool WasTruncatedWithParent(const AuditTarget &target, Relation relation) {
    if (truncated.transaction != GetTopTransactionId() || truncated.command != GetCurrentCommandId(false) ||
        truncated.target_id != target.id || truncated.relation == RelationGetRelid(relation))
        return false;
    if (truncated.relation == target.root) return true;
    List *ancestors = relation->rd_rel->relispartition ? get_partition_ancestors(RelationGetRelid(relation)) : NIL;
    const bool found = list_member_oid(ancestors, truncated.relation);
    list_free(ancestors);
    return found;
}

Datum RecordTruncate(FunctionCallInfo fcinfo) {
    TriggerData *trigger = ReadTriggerCall(fcinfo, {kMaker, kTruncated, false, 0});
    Relation relation = trigger->tg_relation;
    const AuditTarget *found = TargetToRecord(RelationGetRelid(relation));
    if (found == nullptr) return static_cast<Datum>(0);
    const AuditTarget &target = *found;
    if (!target.operations.truncate || WasTruncatedWithParent(target, relation)) return static_cast<Datum>(0);

    AuditWriter writer = BeginAudit(target, relation, 1);
    AuditRow row{};
    row.operation = AuditOperation::kTruncate;
    WriteAudit(&writer, row);
    EndAudit(&writer);
    if (relation->rd_rel->relhassubclass || relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
        truncated = {GetTopTransactionId(), GetCurrentCommandId(false), target.id, RelationGetRelid(relation)};
    return static_cast<Datum>(0);
}

}  // namespace

}  // namespace herald

HERALD_FUNCTION(audit_insert) { return herald::Record(fcinfo, herald::kInserted, false); }
HERALD_FUNCTION(audit_update) { return herald::Record(fcinfo, herald::kUpdated, false); }
HERALD_FUNCTION(audit_delete) { return herald::Record(fcinfo, herald::kDeleted, false); }
HERALD_FUNCTION(audit_truncate) { return herald::RecordTruncate(fcinfo); }
HERALD_FUNCTION(audit_replica) { return herald::Record(fcinfo, herald::kEveryRowChange, true); }
