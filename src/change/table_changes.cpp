// See table_changes.hpp.

#include "change/table_changes.hpp"

#include "change/table_tree.hpp"
#include "change/table_triggers.hpp"
#include "pg/extension.hpp"
#include "pg/transaction_list.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

struct Handlers {
    ChangeHandler changes;
    RenameHandler renames;
    DropHandler drops;
};

constexpr int kMaxHandlers = 4;
Handlers handlers[kMaxHandlers];
int handler_count = 0;

object_access_hook_type previous_access = nullptr;
ProcessUtility_hook_type previous_utility = nullptr;

// Changes that the running command has noted; what they point to is in TopTransactionContext.
pg::TransactionList<TableChange> noted;

TableChange *Note(TableChangeKind kind, Oid relation) {
    TableChange change{};
    change.kind = kind;
    change.relation = relation;
    change.subtransaction = GetCurrentSubTransactionId();
    return noted.Add(change);
}

void NoteAltered(Oid relation) {
    if (!OidIsValid(relation)) return;
    const TableChange *last = noted.count == 0 ? nullptr : &noted.items[noted.count - 1];
    if (last != nullptr && last->kind == TableChangeKind::kAltered && last->relation == relation) return;
    (void)Note(TableChangeKind::kAltered, relation);
}

bool IsTable(Oid relation) {
    const char relkind = get_rel_relkind(relation);
    return (relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE || relkind == RELKIND_FOREIGN_TABLE) &&
           get_rel_persistence(relation) != RELPERSISTENCE_TEMP;
}

// All above the relation, as long as the catalogs say so.
void CollectAncestors(Oid relation, TableChange *change) {
    int count;
    const Oid *parents = ParentsOf(relation, &count);
    for (int i = 0; i < count; i++) {
        const Size bytes = sizeof(Oid) * static_cast<Size>(change->ancestor_count + 1);
        Oid *ancestors = static_cast<Oid *>(MemoryContextAlloc(TopTransactionContext, bytes));
        for (int j = 0; j < change->ancestor_count; j++) ancestors[j] = change->ancestors[j];
        ancestors[change->ancestor_count++] = parents[i];
        change->ancestors = ancestors;
        CollectAncestors(parents[i], change);
    }
}

void NoteDropped(Oid relation) {
    if (!IsTable(relation)) return;
    const char *schema = get_namespace_name(get_rel_namespace(relation));
    TableChange change = {};
    CollectAncestors(relation, &change);
    TableChange *note = Note(TableChangeKind::kDropped, relation);
    note->ancestors = change.ancestors;
    note->ancestor_count = change.ancestor_count;
    note->schema_name = MemoryContextStrdup(TopTransactionContext, schema == nullptr ? "" : schema);
    note->table_name = MemoryContextStrdup(TopTransactionContext, get_rel_name(relation));
}

bool IsReserved(const char *trigger) {
    const std::string_view name = trigger;
    for (const std::string_view prefix : kTriggerPrefixes)
        if (name.substr(0, prefix.size()) == prefix) return true;
    return false;
}

// Fills in what pg_trigger says. False: there is no such trigger.
bool LookUpTrigger(TableChange *change) {
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(change->trigger));
    Relation triggers = table_open(TriggerRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(triggers, TriggerOidIndexId, true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) {
        const FormData_pg_trigger *form = reinterpret_cast<FormData_pg_trigger *>(GETSTRUCT(tuple));
        change->relation = form->tgrelid;
        change->trigger_function = form->tgfoid;
        change->trigger_name = MemoryContextStrdup(TopTransactionContext, NameStr(form->tgname));
    }
    systable_endscan(scan);
    table_close(triggers, AccessShareLock);
    return HeapTupleIsValid(tuple);
}

void NoteTrigger(ObjectAccessType access, Oid trigger) {
    if (access == OAT_DROP) {
        TableChange change = {};
        change.trigger = trigger;
        if (!LookUpTrigger(&change) || !IsReserved(change.trigger_name)) return;
        TableChange *note = Note(TableChangeKind::kTriggerDropped, change.relation);
        change.kind = note->kind;
        change.subtransaction = note->subtransaction;
        *note = change;
    } else {
        Note(access == OAT_POST_CREATE ? TableChangeKind::kTriggerCreated : TableChangeKind::kTriggerAltered,
             InvalidOid)
            ->trigger = trigger;
    }
}

void NoteConstraint(Oid constraint) {
    HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
    if (!HeapTupleIsValid(tuple)) return;
    const FormData_pg_constraint *form = reinterpret_cast<FormData_pg_constraint *>(GETSTRUCT(tuple));
    const Oid relation = form->contype == CONSTRAINT_PRIMARY ? form->conrelid : InvalidOid;
    ReleaseSysCache(tuple);
    NoteAltered(relation);
}

void NoteAccess(ObjectAccessType access, Oid catalog, Oid object, int column, const void *argument) {
    switch (catalog) {
        case RelationRelationId:
            if (access == OAT_DROP && column == 0) {
                for (int i = 0; i < handler_count; i++)
                    if (handlers[i].drops != nullptr) handlers[i].drops(object);
                NoteDropped(object);
            } else {
                // A new one is looked at when it can be seen: it may be the index of a key.
                NoteAltered(object);
            }
            break;
        case InheritsRelationId:
            if (access == OAT_POST_ALTER)
                Note(TableChangeKind::kParentChanged, object)->parent =
                    static_cast<const ObjectAccessPostAlter *>(argument)->auxiliary_id;
            break;
        case TriggerRelationId:
            NoteTrigger(access, object);
            break;
        case ConstraintRelationId:
            // One that was just made can't be seen yet; its index is noted, too.
            if (access == OAT_DROP) NoteConstraint(object);
            break;
        case IndexRelationId:
            NoteAltered(IndexGetRelation(object, true));
            break;
        case NamespaceRelationId:
            if (access == OAT_POST_ALTER) (void)Note(TableChangeKind::kSchemasAltered, InvalidOid);
            break;
        default:
            break;
    }
}

void OnAccess(ObjectAccessType access, Oid catalog, Oid object, int column, void *argument) {
    if (previous_access != nullptr) previous_access(access, catalog, object, column, argument);
    if (access != OAT_POST_CREATE && access != OAT_DROP && access != OAT_POST_ALTER) return;
    if (IsBinaryUpgrade || IsBootstrapProcessingMode() || !IsTransactionState() || ChangingTriggers()) return;
    NoteAccess(access, catalog, object, column, argument);
}

// Completes a note now that the change can be seen. False: it is of no interest.
bool Resolve(TableChange *change) {
    switch (change->kind) {
        case TableChangeKind::kTriggerCreated:
        case TableChangeKind::kTriggerAltered:
            return LookUpTrigger(change);
        case TableChangeKind::kAltered: {
            const char relkind = get_rel_relkind(change->relation);
            if (relkind == RELKIND_INDEX || relkind == RELKIND_PARTITIONED_INDEX)
                change->relation = IndexGetRelation(change->relation, true);
            return OidIsValid(change->relation) && IsTable(change->relation);
        }
        default:
            return true;
    }
}

// Hands over what the command has done. What the handlers do themselves is noted as well, and handed over
// with the next command.
void TellHandlers() {
    if (noted.count == 0 || !IsTransactionState()) return;
    const int all = noted.count;
    int count = 0;
    auto *changes = static_cast<TableChange *>(
        MemoryContextAllocHuge(TopTransactionContext, sizeof(TableChange) * static_cast<Size>(all)));
    std::memcpy(changes, noted.items, sizeof(TableChange) * static_cast<Size>(all));
    noted.Forget();
    CommandCounterIncrement();
    for (int i = 0; i < all; i++)
        if (Resolve(&changes[i])) changes[count++] = changes[i];
    if (count == 0 || !pg::ExtensionExists()) return;
    const bool pushed = !ActiveSnapshotSet();
    if (pushed) PushActiveSnapshot(GetTransactionSnapshot());
    for (int i = 0; i < handler_count; i++)
        if (handlers[i].changes != nullptr) handlers[i].changes(changes, count);
    if (pushed) PopActiveSnapshot();
    pfree(changes);
}

// Triggers are known by their names. And TRIGGER, a privilege that others than the owner may have, would be
// enough to replace one.
void KeepTriggers(Node *statement) {
    const char *trigger = nullptr;
    if (IsA(statement, CreateTrigStmt) && castNode(CreateTrigStmt, statement)->replace)
        trigger = castNode(CreateTrigStmt, statement)->trigname;
    if (IsA(statement, RenameStmt) && castNode(RenameStmt, statement)->renameType == OBJECT_TRIGGER)
        trigger = castNode(RenameStmt, statement)->subname;
    if (trigger == nullptr || !IsReserved(trigger)) return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("trigger \"%s\" can be neither replaced nor renamed", trigger),
                    errdetail("Its name is one of those that pg_herald uses.")));
}

// Only the command knows the old name.
void NoteColumnRename(const RenameStmt *statement) {
    if (statement->renameType != OBJECT_COLUMN || statement->relation == nullptr) return;
    const Oid relation = RangeVarGetRelid(statement->relation, NoLock, true);
    if (!OidIsValid(relation) || !IsTable(relation)) return;
    TableChange *note = Note(TableChangeKind::kColumnRenamed, relation);
    note->column = MemoryContextStrdup(TopTransactionContext, statement->subname);
    note->new_column = MemoryContextStrdup(TopTransactionContext, statement->newname);
}

void OnUtility(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
               ParamListInfo params, QueryEnvironment *environment, DestReceiver *receiver,
               QueryCompletion *completion) {
    const NodeTag tag = nodeTag(statement->utilityStmt);
    if (tag == T_CreateTrigStmt || tag == T_RenameStmt) KeepTriggers(statement->utilityStmt);
    if ((tag == T_RenameStmt || tag == T_AlterObjectSchemaStmt) && !IsBinaryUpgrade && IsTransactionState() &&
        pg::ExtensionExists())
        for (int i = 0; i < handler_count; i++)
            if (handlers[i].renames != nullptr) handlers[i].renames();
    auto next = previous_utility != nullptr ? previous_utility : standard_ProcessUtility;
    next(statement, query, read_only_tree, context, params, environment, receiver, completion);
    // A command that altered nothing (IF EXISTS) has noted nothing.
    if (tag == T_RenameStmt && noted.count > 0) NoteColumnRename(castNode(RenameStmt, statement->utilityStmt));
    // In the midst of another command tables may not be complete yet.
    if (context != PROCESS_UTILITY_SUBCOMMAND) TellHandlers();
}

void Forget() { noted.Forget(); }

void KeepSub(SubTransactionId own, SubTransactionId parent) { noted.KeepSub(own, parent); }

// The notes of a failed command are at the end: an error ends the subtransaction.
void DropSub(SubTransactionId own) { noted.DropSub(own); }

}  // namespace

const pg::TransactionPart kTableChangesPart = {.before_commit = pg::NoEnd,
                                               .before_prepare = pg::NoEnd,
                                               .committed = Forget,
                                               .prepared = Forget,
                                               .aborted = Forget,
                                               .sub_committed = KeepSub,
                                               .sub_aborted = DropSub};

void OnTableChanges(ChangeHandler changes, RenameHandler renames, DropHandler drops) {
    if (handler_count == kMaxHandlers) elog(ERROR, "too many handlers of table changes");
    handlers[handler_count++] = {changes, renames, drops};
}

void InitTableChanges() {
    previous_access = object_access_hook;
    object_access_hook = OnAccess;
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = OnUtility;
}

}  // namespace herald
