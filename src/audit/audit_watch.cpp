// See audit_watch.hpp.

#include "pg/pg.hpp"

#include "audit/audit_watch.hpp"

#include "audit/audit_events.hpp"
#include "audit/trail_tables.hpp"
#include "audit/audited_tables.hpp"
#include "audit/enrolment.hpp"
#include "audit/segments.hpp"
#include "change/table_changes.hpp"
#include "change/table_tree.hpp"
#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

struct Targets {
    StoredTarget *rows;
    int count;
};

// {"table": …, "trigger": …, "problem": …}, without what is NULL.
pg::Param Detail(const char *table, const char *trigger, const char *problem) {
    MemoryContext context = CurrentMemoryContext;
    return pg::AsOwner([&] {
        (void)pg::SpiRun(
            "SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('table', $1,"
            " 'trigger', $2, 'problem', $3))",
            std::array{pg::Text(table), pg::Text(trigger), pg::Text(problem)});
        MemoryContext spi = MemoryContextSwitchTo(context);
        Datum detail = PointerGetDatum(PG_DETOAST_DATUM_COPY(pg::SpiField(0, 1, JSONBOID).value));
        MemoryContextSwitchTo(spi);
        return pg::Jsonb(detail, false);
    });
}

void Record(AuditOperation operation, const StoredTarget &target, pg::Param detail) {
    AuditEvent event = {
        operation, target.id, target.schema_name, target.table_name, pg::Jsonb(static_cast<Datum>(0), true), detail};
    (void)ReadNames(target.relation, &event.schema_name, &event.table_name);
    WriteAuditEvent(event);
}

const char *QualifiedName(Oid relation) {
    const char *schema, *name;
    return ReadNames(relation, &schema, &name) ? psprintf("%s.%s", schema, name) : psprintf("%u", relation);
}

pg::Param DetailOf(Oid relation) { return Detail(QualifiedName(relation), nullptr, nullptr); }

StoredTarget *Enrolled(const Targets &targets, Oid relation) {
    if (!OidIsValid(relation) || get_rel_name(relation) == nullptr) return nullptr;
    return const_cast<StoredTarget *>(FindEnrolled(relation, targets.rows, targets.count));
}

// Whatever its name: anybody's trigger may have one like ours.
bool IsAuditTrigger(const TableChange &change) {
    const char *function = get_func_name(change.trigger_function);
    return function != nullptr && get_func_namespace(change.trigger_function) == pg::Tables().internal &&
           std::string_view(function).substr(0, 6) == "audit_";
}

void Disturb(StoredTarget *target, AuditOperation operation, const TableChange &change, const char *problem) {
    Record(operation, *target, Detail(QualifiedName(change.relation), change.trigger_name, problem));
    SetDisturbed(*target, true);
    target->disturbed = true;
}

void Settle(StoredTarget *target, const TableChange &change) {
    int partitions;
    if (!target->disturbed || FindAuditProblem(*target, &partitions) != nullptr) return;
    Record(AuditOperation::kEnableTrigger, *target,
           Detail(QualifiedName(change.relation), change.trigger_name, nullptr));
    SetDisturbed(*target, false);
    target->disturbed = false;
}

void OnTrigger(const Targets &targets, const TableChange &change) {
    StoredTarget *target = Enrolled(targets, change.relation);
    if (target == nullptr || !IsAuditTrigger(change)) return;
    if (change.kind == TableChangeKind::kTriggerDropped) {
        Disturb(target, AuditOperation::kDropTrigger, change, nullptr);
        return;
    }
    // A restore makes one after the other: what is still missing then is nobody's doing.
    const char *problem =
        change.kind == TableChangeKind::kTriggerCreated
            ? nullptr
            : FindTriggerProblem(change.relation, AuditTriggers(target->operations), change.trigger_name);
    if (problem != nullptr)
        Disturb(target, AuditOperation::kDisableTrigger, change, problem);
    else
        Settle(target, change);
}

// What is audited by itself would have two kinds of options.
void RequireNoneBelow(const Targets &targets, const StoredTarget &above, Oid member) {
    for (int i = 0; i < targets.count; i++) {
        const StoredTarget &target = targets.rows[i];
        if (!target.enabled || !OidIsValid(target.relation) || &target == &above ||
            (target.relation != member && !IsAbove(member, target.relation)))
            continue;
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table \"%s\" is audited, and so is table \"%s\" above it",
                               get_rel_name(target.relation), get_rel_name(above.relation)),
                        errhint("Call herald.disable_audit() for one of them first.")));
    }
}

// Its triggers would not see statements that name the table above.
void RequireNotAudited(const Targets &targets, Oid member, Oid parent) {
    for (int i = 0; i < targets.count; i++)
        if (targets.rows[i].enabled && targets.rows[i].relation == member)
            ereport(ERROR,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("table \"%s\" is audited, and table \"%s\" above it is not", get_rel_name(member),
                            get_rel_name(parent)),
                     errdetail("Changes by statements that name the one above would not be recorded."),
                     errhint("Call herald.disable_audit() before, and herald.enable_audit() for the one above.")));
}

void OnParentChange(const Targets &targets, const TableChange &change) {
    if (get_rel_name(change.relation) == nullptr) return;
    const StoredTarget *above = Enrolled(targets, change.parent);
    if (IsAbove(change.parent, change.relation)) {
        if (above != nullptr)
            RequireNoneBelow(targets, *above, change.relation);
        else
            RequireNotAudited(targets, change.relation, change.parent);
    }
    const StoredTarget *target = Enrolled(targets, change.relation);
    if (target != nullptr) {
        if (target->relation != change.relation && EnrolMember(*target, change.relation))
            Record(AuditOperation::kAttach, *target, DetailOf(change.relation));
        return;
    }
    const StoredTarget *former = Enrolled(targets, change.parent);
    if (former != nullptr && DismissMember(change.relation))
        Record(AuditOperation::kDetach, *former, DetailOf(change.relation));
}

// A row that goes by names has found nothing under them any more.
bool IsOf(const StoredTarget &target, const TableChange &change) {
    if (target.in_place) return target.relation == change.relation;
    return target.enabled && std::strcmp(target.schema_name, change.schema_name) == 0 &&
           std::strcmp(target.table_name, change.table_name) == 0;
}

void OnDropped(const Targets &targets, const TableChange &change) {
    const char *name = psprintf("%s.%s", change.schema_name, change.table_name);
    for (int i = 0; i < targets.count; i++) {
        StoredTarget *target = &targets.rows[i];
        if (IsOf(*target, change)) {
            target->schema_name = change.schema_name;
            target->table_name = change.table_name;
            if (target->enabled) Record(AuditOperation::kDropTable, *target, Detail(name, nullptr, nullptr));
            ForgetTarget(*target);
            target->enabled = false;
            continue;
        }
        // A partition; where the whole table goes, that is told of only.
        bool below = false;
        for (int j = 0; j < change.ancestor_count; j++) below = below || change.ancestors[j] == target->relation;
        if (below && target->enabled && get_rel_name(target->relation) != nullptr)
            Record(AuditOperation::kDropTable, *target, Detail(name, nullptr, nullptr));
    }
}

void OnAltered(const Targets &targets, Oid relation) {
    for (int i = 0; i < targets.count; i++) {
        const StoredTarget &target = targets.rows[i];
        if (!target.enabled || get_rel_name(target.relation) == nullptr) continue;
        if (OidIsValid(relation) && target.relation != relation) continue;
        if (target.in_place) RefreshTarget(target);
    }
}

void OnChanges(const TableChange *changes, int count) {
    Targets targets;
    targets.rows = ReadStoredTargets(&targets.count);
    if (targets.count == 0) return;
    for (int i = 0; i < count; i++) {
        const TableChange &change = changes[i];
        switch (change.kind) {
            case TableChangeKind::kTriggerCreated:
            case TableChangeKind::kTriggerAltered:
            case TableChangeKind::kTriggerDropped:
                OnTrigger(targets, change);
                break;
            case TableChangeKind::kParentChanged:
                OnParentChange(targets, change);
                break;
            case TableChangeKind::kDropped:
                OnDropped(targets, change);
                break;
            case TableChangeKind::kAltered:
                OnAltered(targets, change.relation);
                break;
            case TableChangeKind::kColumnRenamed:
                break;
            case TableChangeKind::kSchemasAltered:
                OnAltered(targets, InvalidOid);
                break;
        }
    }
}

// Where a restored row goes by names, they must become numbers before a name changes.
void OnRename() {
    int count;
    const StoredTarget *targets = ReadStoredTargets(&count);
    for (int i = 0; i < count; i++)
        if (targets[i].enabled && !targets[i].in_place && OidIsValid(targets[i].relation)) AdoptTarget(targets[i]);
}

// What was only set up is no loss: a migration that is undone drops the extension again.
bool IsLoss(AuditOperation operation) {
    return operation != AuditOperation::kEnable && operation != AuditOperation::kAlter &&
           operation != AuditOperation::kDisable && operation != AuditOperation::kPurge;
}

// The time of its first entry that would be a loss, or DT_NOEND.
TimestampTz FirstEntry(Oid segment) {
    TimestampTz first = DT_NOEND;
    Relation table = pg::OpenTable(segment, AccessShareLock, kAuditForm);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    TableScanDesc scan = pg::BeginTableScan(table, snapshot);
    TupleTableSlot *row = table_slot_create(table, nullptr);
    bool is_null;
    while (first == DT_NOEND && table_scan_getnextslot(scan, ForwardScanDirection, row)) {
        CHECK_FOR_INTERRUPTS();
        if (IsLoss(static_cast<AuditOperation>(DatumGetChar(slot_getattr(row, kAuditOperation, &is_null)))))
            first = DatumGetTimestampTz(slot_getattr(row, kAuditChangedAt, &is_null));
    }
    ExecDropSingleTupleTableSlot(row);
    table_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(table, AccessShareLock);
    return first;
}

// By DROP EXTENSION, DROP SCHEMA … CASCADE or DROP OWNED: whichever segment comes first sees all of them.
void OnDrop(Oid relation) {
    const char *name = get_rel_name(relation);
    if (name == nullptr || std::strncmp(name, "audit_", 6) != 0 || !pg::ExtensionExists()) return;
    const Oid schema = pg::InternalSchema();
    if (!OidIsValid(schema) || get_rel_namespace(relation) != schema) return;
    TimestampTz first = DT_NOEND;
    bool is_segment = false;
    for (int i = 0; i < kAuditSegments; i++) {
        const Oid segment = get_relname_relid(psprintf("audit_%d", i), schema);
        if (!OidIsValid(segment)) continue;
        is_segment = is_segment || segment == relation;
        const TimestampTz time = FirstEntry(segment);
        first = Min(first, time);
    }
    if (!is_segment || first == DT_NOEND) return;
    ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST), errmsg("the audit trail would be lost"),
                    errdetail("It has entries since %s.", timestamptz_to_str(first)),
                    errhint("To give it up, call herald.purge_audit_log() first.")));
}

}  // namespace

void InitAuditWatch() { OnTableChanges(OnChanges, OnRename, OnDrop); }

}  // namespace herald
