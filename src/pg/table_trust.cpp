// See table_trust.hpp.

#include "pg/table_trust.hpp"

#include "pg/compat.hpp"
#include "pg/extension.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"
}

namespace herald::pg {

namespace {

ExecutorStart_hook_type previous_hook = nullptr;
bool own_statement = false;

// What is on a table that the extension did not make, and what to do about it.
struct Foreign {
    const char *what;  // NULL: nothing
    const char *hint;
};

[[noreturn]] void Refuse(Relation table, const Foreign &foreign) {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("table \"herald_internal.%s\" can't be trusted", RelationGetRelationName(table)),
                    errdetail("It has %s, which the extension pg_herald did not make.", foreign.what),
                    errhint("%s", foreign.hint)));
    pg_unreachable();
}

Oid FunctionOf(const char *name, Oid schema) {
    return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
                           PointerGetDatum(buildoidvector(nullptr, 0)), ObjectIdGetDatum(schema));
}

bool IsGuard(Oid function, Oid schema) {
    constexpr const char *kNames[] = {"guard_options", "guard_audit_log", "guard_replicated", "guard_ids"};
    static Oid guards[lengthof(kNames)];
    for (Oid guard : guards)
        if (function == guard) return true;
    bool is_guard = false;
    for (uint32 i = 0; i < lengthof(kNames); i++) {
        guards[i] = FunctionOf(kNames[i], schema);
        is_guard = is_guard || function == guards[i];
    }
    return OidIsValid(function) && is_guard;
}

Foreign ForeignRows(Relation table) {
    if (table->rd_rules != nullptr)
        return {"a rule", "Drop it with DROP RULE; herald.status() lists all that is foreign."};
    if (table->rd_rel->relhassubclass && find_inheritance_children(RelationGetRelid(table), NoLock) != NIL)
        return {"child tables", "Part them from it with ALTER TABLE ... NO INHERIT."};
    return {};
}

Foreign ForeignTrigger(Relation table) {
    const Oid schema = table->rd_rel->relnamespace;
    const TriggerDesc *triggers = table->trigdesc;
    for (int i = 0; triggers != nullptr && i < triggers->numtriggers; i++)
        if (!IsGuard(triggers->triggers[i].tgfoid, schema))
            return {
                psprintf("the trigger \"%s\"", triggers->triggers[i].tgname),
                "Drop the trigger, or the foreign key that it belongs to; herald.status() lists all that is foreign."};
    return {};
}

void Require(Relation table, const Foreign &foreign) {
    if (foreign.what != nullptr) Refuse(table, foreign);
}

void CheckTables(const PlannedStmt *statement) {
    const Oid schema = TablesKnown() ? Tables().internal : InternalSchema();
    if (!OidIsValid(schema)) return;
    // A rule's action, which is a statement of its own, has the table of the rule among its own.
    for (int number = 1; number <= list_length(statement->rtable); number++) {
        const RangeTblEntry *entry = rt_fetch(number, statement->rtable);
        if (entry->rtekind != RTE_RELATION) continue;
        Relation relation = RelationIdGetRelation(entry->relid);
        if (!RelationIsValid(relation)) continue;
        if (relation->rd_rel->relnamespace == schema && relation->rd_rel->relkind == RELKIND_RELATION) {
            Require(relation, ForeignRows(relation));
            if (IsResultRelation(statement, number)) Require(relation, ForeignTrigger(relation));
        }
        RelationClose(relation);
    }
}

void OnStart(QueryDesc *query, int flags) {
    if (own_statement) CheckTables(query->plannedstmt);
    if (previous_hook != nullptr)
        previous_hook(query, flags);
    else
        standard_ExecutorStart(query, flags);
}

void EndOwnStatementOf(SubTransactionId) { own_statement = false; }

}  // namespace

// An ERROR leaves it on.
const TransactionPart kOwnStatementPart = {
    .before_commit = NoEnd,
    .before_prepare = NoEnd,
    .committed = EndOwnStatement,
    .prepared = EndOwnStatement,
    .aborted = EndOwnStatement,
    .sub_committed = NoSubEnd,
    .sub_aborted = EndOwnStatementOf,
};

void BeginOwnStatement() { own_statement = true; }

void EndOwnStatement() { own_statement = false; }

bool TrustsTables(const char *const *names, int count) {
    static bool told = false;
    for (int i = 0; i < count; i++) {
        const Oid oid = get_relname_relid(names[i], Tables().internal);
        // A lock of who makes a trigger now is not waited for.
        if (!OidIsValid(oid) || !ConditionalLockRelationOid(oid, RowExclusiveLock)) return false;
        Relation table = table_open(oid, NoLock);
        Foreign foreign = ForeignRows(table);
        if (foreign.what == nullptr) foreign = ForeignTrigger(table);
        if (foreign.what != nullptr && !told)
            ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                              errmsg("table \"herald_internal.%s\" can't be trusted", names[i]),
                              errdetail("It has %s, which the extension pg_herald did not make.", foreign.what),
                              errhint("%s", foreign.hint)));
        table_close(table, NoLock);
        if (foreign.what == nullptr) continue;
        told = true;
        return false;
    }
    told = false;
    return true;
}

void RequireTrustedTable(const char *name, int lock_mode) {
    const Oid oid = get_relname_relid(name, Tables().internal);
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation \"herald_internal.%s\" is missing", name),
                        errhint("Create the extension pg_herald again.")));
    Relation table = table_open(oid, lock_mode);
    Require(table, ForeignRows(table));
    Require(table, ForeignTrigger(table));
    table_close(table, NoLock);
}

void ReportRewritten(const char *sql) {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("a rule on a table of the extension pg_herald has replaced an internal statement"),
                    errdetail("The statement is: %s", sql),
                    errhint("Drop the rule with DROP RULE; herald.status() lists all that is foreign.")));
    pg_unreachable();
}

void InitTableTrust() {
    previous_hook = ExecutorStart_hook;
    ExecutorStart_hook = OnStart;
}

}  // namespace herald::pg
