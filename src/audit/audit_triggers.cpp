// The trigger functions of audited tables. A statement's changes are recorded once: by the triggers of the table
// that it names, or, where they are replicated or session_replication_role is replica, by those of the rows.

#include "pg/pg.hpp"

#include "audit/audit_context.hpp"
#include "audit/audit_rows.hpp"
#include "audit/audit_target.hpp"
#include "audit/audit_writer.hpp"
#include "change/output_settings.hpp"
#include "change/row_pairs.hpp"
#include "change/table_shape.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "catalog/partition.h"
#include "commands/trigger.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

[[noreturn]] void RefuseCall(const char *why) {
    ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                    errmsg("the function must be called as a trigger of herald.enable_audit"), errdetail("%s", why)));
    pg_unreachable();
}

enum class Firing { kInsert, kUpdate, kDelete, kTruncate, kReplica };

TriggerData *TriggerOf(FunctionCallInfo fcinfo, Firing firing) {
    if (!CALLED_AS_TRIGGER(fcinfo)) RefuseCall("It was not called by the trigger manager.");
    TriggerData *trigger = reinterpret_cast<TriggerData *>(fcinfo->context);
    const TriggerEvent event = trigger->tg_event;
    const bool is_right = firing == Firing::kInsert     ? TRIGGER_FIRED_BY_INSERT(event)
                          : firing == Firing::kUpdate   ? TRIGGER_FIRED_BY_UPDATE(event)
                          : firing == Firing::kDelete   ? TRIGGER_FIRED_BY_DELETE(event)
                          : firing == Firing::kTruncate ? TRIGGER_FIRED_BY_TRUNCATE(event)
                                                        : !TRIGGER_FIRED_BY_TRUNCATE(event);
    if (!is_right || !TRIGGER_FIRED_AFTER(event) || (TRIGGER_FIRED_FOR_ROW(event) != 0) != (firing == Firing::kReplica))
        RefuseCall("It was made for another event.");
    const bool needs_old = firing == Firing::kUpdate || firing == Firing::kDelete;
    const bool needs_new = firing == Firing::kUpdate || firing == Firing::kInsert;
    if ((needs_old && trigger->tg_oldtable == nullptr) || (needs_new && trigger->tg_newtable == nullptr))
        RefuseCall("It has no transition tables.");
    return trigger;
}

bool IsRecorded(const AuditTarget &target, TriggerEvent event) {
    if (TRIGGER_FIRED_BY_INSERT(event)) return target.operations.insert;
    if (TRIGGER_FIRED_BY_UPDATE(event)) return target.operations.update;
    if (TRIGGER_FIRED_BY_DELETE(event)) return target.operations.del;
    return target.operations.truncate;
}

Datum Record(FunctionCallInfo fcinfo, Firing firing) {
    TriggerData *trigger = TriggerOf(fcinfo, firing);
    if (IsReplicating() != (firing == Firing::kReplica)) return static_cast<Datum>(0);
    const AuditTarget *target = TargetToRecord(RelationGetRelid(trigger->tg_relation));
    if (target != nullptr && IsRecorded(*target, trigger->tg_event)) {
        const int pinned = PinOutputSettings(ShapeOf(trigger->tg_relation)->needs);
        AuditRows(*target, trigger);
        UnpinOutputSettings(pinned);
    }
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
    TriggerData *trigger = TriggerOf(fcinfo, Firing::kTruncate);
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

HERALD_FUNCTION(audit_insert) { return herald::Record(fcinfo, herald::Firing::kInsert); }
HERALD_FUNCTION(audit_update) { return herald::Record(fcinfo, herald::Firing::kUpdate); }
HERALD_FUNCTION(audit_delete) { return herald::Record(fcinfo, herald::Firing::kDelete); }
HERALD_FUNCTION(audit_truncate) { return herald::RecordTruncate(fcinfo); }
HERALD_FUNCTION(audit_replica) { return herald::Record(fcinfo, herald::Firing::kReplica); }
