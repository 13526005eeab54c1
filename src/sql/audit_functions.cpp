// SQL entry points of audit trails.

#include "audit/audited_tables.hpp"
#include "audit/column_options.hpp"
#include "audit/enrolment.hpp"
#include "audit/history.hpp"
#include "audit/purge.hpp"
#include "change/table_tree.hpp"
#include "pg/arguments.hpp"
#include "pg/guard.hpp"
#include "pg/subtransaction.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/rel.h"
}

using namespace herald;

namespace {

// The elements of a text[] argument; a NULL array or element is an ERROR 22004.
const char **TextsArgument(FunctionCallInfo fcinfo, int argument, const char *name, int *count) {
    Datum *elements;
    bool *nulls;
    if (PG_ARGISNULL(argument)) pg::ReportNull(name);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
    const char **texts = static_cast<const char **>(palloc(sizeof(char *) * static_cast<Size>(Max(*count, 1))));
    for (int i = 0; i < *count; i++) {
        if (nulls[i]) pg::ReportNull(psprintf("an element of %s", name));
        texts[i] = TextDatumGetCString(elements[i]);
    }
    return texts;
}

const char *RecordName(AuditRecord record) {
    switch (record) {
        case AuditRecord::kDiff:
            return "diff";
        case AuditRecord::kKeys:
            return "keys";
        default:
            return "full";
    }
}

const TriggerData *GuardOf(FunctionCallInfo fcinfo) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("the function must be called as a trigger")));
    return reinterpret_cast<const TriggerData *>(fcinfo->context);
}

// masked and hashed columns, as herald.enable_audit takes them.
Datum MaskOf(const StoredTarget &target) {
    const int count = target.masked.count + target.hashed.count;
    const char **names = static_cast<const char **>(palloc(sizeof(char *) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < target.masked.count; i++) names[i] = target.masked.names[i];
    for (int i = 0; i < target.hashed.count; i++)
        names[target.masked.count + i] = psprintf("hash:%s", target.hashed.names[i]);
    return TextArray(names, count).value;
}

void ListTarget(ReturnSetInfo *result, const StoredTarget &target) {
    int partitions;
    const char *problem = FindAuditProblem(target, &partitions);
    const char *schema = target.schema_name, *table = target.table_name;
    (void)ReadNames(target.relation, &schema, &table);
    Datum values[9] = {CStringGetTextDatum(schema),
                       CStringGetTextDatum(table),
                       CStringGetTextDatum(RecordName(target.record)),
                       TextArray(target.excluded.names, target.excluded.count).value,
                       MaskOf(target),
                       OperationArray(target.operations).value,
                       Int32GetDatum(partitions),
                       BoolGetDatum(problem == nullptr),
                       problem == nullptr ? static_cast<Datum>(0) : CStringGetTextDatum(problem)};
    bool nulls[9] = {};
    nulls[8] = problem == nullptr;
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

}  // namespace

HERALD_FUNCTION(enable_audit) {
    AuditOptions options = {};
    if (PG_ARGISNULL(0)) pg::ReportNull("target");
    options.record = pg::RequiredText(fcinfo, 1, "record");
    options.exclude = TextsArgument(fcinfo, 2, "exclude", &options.exclude_count);
    options.mask = TextsArgument(fcinfo, 3, "mask", &options.mask_count);
    options.operations = TextsArgument(fcinfo, 4, "operations", &options.operation_count);
    EnableAudit(PG_GETARG_OID(0), options);
    PG_RETURN_VOID();
}

HERALD_FUNCTION(disable_audit) {
    if (PG_ARGISNULL(0)) pg::ReportNull("target");
    DisableAudit(PG_GETARG_OID(0));
    PG_RETURN_VOID();
}

HERALD_FUNCTION(audit_history) {
    // The rows of a view may have columns that were added to it later: the caller's descriptor counts.
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    // Somebody who looks and leaves the transaction open must not keep the trail from being emptied.
    const Jsonb *record_id = PG_GETARG_JSONB_P(1);
    pg::ReadAndLetGo([&] { CollectHistory(PG_GETARG_OID(0), record_id, result->setResult, result->setDesc); });
    return static_cast<Datum>(0);
}

HERALD_FUNCTION(list_audited_tables) {
    InitMaterializedSRF(fcinfo, 0);
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    int count;
    const StoredTarget *targets = ReadStoredTargets(&count);
    for (int i = 0; i < count; i++)
        if (targets[i].enabled && MaySeeTarget(targets[i])) ListTarget(result, targets[i]);
    return static_cast<Datum>(0);
}

HERALD_FUNCTION(purge_audit_log) {
    const TimestampTz before = PG_ARGISNULL(0) ? 0 : PG_GETARG_TIMESTAMPTZ(0);
    PG_RETURN_INT64(PurgeAuditLog(PG_ARGISNULL(0) ? nullptr : &before));
}

HERALD_FUNCTION(guard_audit_log) {
    const TriggerData *trigger = GuardOf(fcinfo);
    const bool allowed = TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? superuser() : PurgingAuditLog();
    if (!allowed)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("the audit trail can't be changed"),
                        errdetail("\"%s\" belongs to it.", RelationGetRelationName(trigger->tg_relation)),
                        errhint("herald.audit_retention and herald.purge_audit_log() delete what is old.")));
    return static_cast<Datum>(0);
}

// pg_write_all_data gives the right to write to any table.
HERALD_FUNCTION(guard_options) {
    const TriggerData *trigger = GuardOf(fcinfo);
    if (!pg::OwnsRelation(RelationGetRelid(trigger->tg_relation), GetUserId()))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("must be owner of table \"%s\"", RelationGetRelationName(trigger->tg_relation))));
    return static_cast<Datum>(0);
}
