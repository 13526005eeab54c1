// See table_triggers.hpp. Triggers are made by the server's own function with the oid of the trigger
// function, as the owner of the extension: who may have the triggers owns the table, and EXECUTE on the
// functions is not needed for that.

#include "change/table_triggers.hpp"

#include "pg/extension.hpp"
#include "pg/identity.hpp"
#include "pg/marker.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
}

namespace herald {

namespace {

// One trigger of a set: what it is, and how it fires.
struct Kind {
    const char *name;  // after prefix and purpose
    int16 type;        // bits of pg_trigger.tgtype
    bool old_rows;
    bool new_rows;
    char fires;
};

constexpr Kind kKinds[] = {
    {"insert", TRIGGER_TYPE_INSERT, false, true, TRIGGER_FIRES_ON_ORIGIN},
    {"update", TRIGGER_TYPE_UPDATE, true, true, TRIGGER_FIRES_ON_ORIGIN},
    {"delete", TRIGGER_TYPE_DELETE, true, false, TRIGGER_FIRES_ON_ORIGIN},
    {"truncate", TRIGGER_TYPE_TRUNCATE, false, false, TRIGGER_FIRES_ALWAYS},
    {"replica", TRIGGER_TYPE_ROW, false, false, TRIGGER_FIRES_ON_REPLICA},
};
constexpr int kReplica = 4;
constexpr int kKindCount = 5;

pg::Marker changing;

// The bits that the trigger of a kind should have, 0: there should be none. Rows are in leaves: the server
// would clone a row trigger of a partitioned table, for which every owner of a partition would need EXECUTE on its
// function.
int16 WantedType(Oid relation, const TriggerSet &set, int kind) {
    switch (kind) {
        case 0:
            return set.insert ? kKinds[kind].type : 0;
        case 1:
            return set.update ? kKinds[kind].type : 0;
        case 2:
            return set.del ? kKinds[kind].type : 0;
        case 3:
            return set.truncate ? kKinds[kind].type : 0;
        default: {
            const int events = (set.insert ? TRIGGER_TYPE_INSERT : 0) | (set.update ? TRIGGER_TYPE_UPDATE : 0) |
                               (set.del ? TRIGGER_TYPE_DELETE : 0);
            if (get_rel_relkind(relation) == RELKIND_PARTITIONED_TABLE) return 0;
            return static_cast<int16>(events == 0 ? 0 : TRIGGER_TYPE_ROW | events);
        }
    }
}

const char *NameOf(const char *prefix, int kind) { return psprintf("%s_%s", prefix, kKinds[kind].name); }

List *FunctionName(const char *purpose, int kind) {
    return list_make2(makeString(pstrdup("herald_internal")),
                      makeString(psprintf("%s_%s", purpose, kKinds[kind].name)));
}

// By the catalogs, as who asks may have no USAGE on the schema. InvalidOid: it is missing.
Oid FunctionOf(const char *purpose, int kind) {
    const char *name = psprintf("%s_%s", purpose, kKinds[kind].name);
    return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
                           PointerGetDatum(buildoidvector(nullptr, 0)), ObjectIdGetDatum(pg::InternalSchema()));
}

// A trigger as it is.
struct Found {
    Oid oid;
    Oid function;
    int16 type;
    char fires;
    bool transition;
    bool has_condition;
    bool has_columns;
};

template <typename Visit>
void VisitTriggers(Oid relation, Visit visit) {
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
    Relation triggers = table_open(TriggerRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(triggers, TriggerRelidNameIndexId, true, nullptr, 1, &key);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        const FormData_pg_trigger *form = reinterpret_cast<FormData_pg_trigger *>(GETSTRUCT(tuple));
        bool no_old, no_new, no_condition;
        (void)heap_getattr(tuple, Anum_pg_trigger_tgoldtable, RelationGetDescr(triggers), &no_old);
        (void)heap_getattr(tuple, Anum_pg_trigger_tgnewtable, RelationGetDescr(triggers), &no_new);
        (void)heap_getattr(tuple, Anum_pg_trigger_tgqual, RelationGetDescr(triggers), &no_condition);
        visit(NameStr(form->tgname), Found{form->oid, form->tgfoid, form->tgtype, form->tgenabled, !no_old || !no_new,
                                           !no_condition, form->tgattr.dim1 > 0});
    }
    systable_endscan(scan);
    table_close(triggers, AccessShareLock);
}

bool FindTrigger(Oid relation, const char *name, Found *found) {
    bool exists = false;
    VisitTriggers(relation, [&](const char *candidate, const Found &trigger) {
        if (std::strcmp(candidate, name) != 0) return;
        *found = trigger;
        exists = true;
    });
    return exists;
}

// NULL: the trigger of that kind is as it should be (or is not there, and should not be).
const char *ProblemOf(Oid relation, const TriggerSet &set, int kind) {
    const Kind &wanted = kKinds[kind];
    const int16 type = WantedType(relation, set, kind);
    const char *name = NameOf(set.prefix, kind);
    Found found;
    if (!FindTrigger(relation, name, &found)) return type == 0 ? nullptr : psprintf("trigger \"%s\" is missing", name);
    if (type == 0) return psprintf("trigger \"%s\" should not be there", name);
    if (found.fires == TRIGGER_DISABLED) return psprintf("trigger \"%s\" is disabled", name);
    if (found.function != FunctionOf(set.purpose, kind) || found.type != type || found.has_condition ||
        found.has_columns || found.transition != (wanted.old_rows || wanted.new_rows))
        return psprintf("trigger \"%s\" is not the one that was made", name);
    if (found.fires != wanted.fires) return psprintf("trigger \"%s\" fires at other times than it should", name);
    return nullptr;
}

TriggerTransition *Transition(const char *name, bool is_new) {
    TriggerTransition *transition = makeNode(TriggerTransition);
    transition->name = pstrdup(name);
    transition->isNew = is_new;
    transition->isTable = true;
    return transition;
}

void Create(Oid relation, const TriggerSet &set, int kind) {
    const Kind &wanted = kKinds[kind];
    const int16 type = WantedType(relation, set, kind);
    CreateTrigStmt *statement = makeNode(CreateTrigStmt);
    statement->trigname = const_cast<char *>(NameOf(set.prefix, kind));
    statement->funcname = FunctionName(set.purpose, kind);
    if (set.argument != nullptr) statement->args = list_make1(makeString(pstrdup(set.argument)));
    statement->row = kind == kReplica;
    statement->timing = TRIGGER_TYPE_AFTER;
    statement->events = static_cast<int16>(type & ~TRIGGER_TYPE_ROW);
    if (wanted.old_rows) statement->transitionRels = lappend(statement->transitionRels, Transition("old_rows", false));
    if (wanted.new_rows) statement->transitionRels = lappend(statement->transitionRels, Transition("new_rows", true));
    (void)CreateTriggerFiringOn(statement, nullptr, relation, InvalidOid, InvalidOid, InvalidOid,
                                FunctionOf(set.purpose, kind), InvalidOid, nullptr, false, false, wanted.fires);
    CommandCounterIncrement();
}

void Remove(Oid trigger) {
    const ObjectAddress address = {TriggerRelationId, trigger, 0};
    performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
    CommandCounterIncrement();
}

bool RemoveKind(Oid relation, const char *prefix, int kind) {
    Found found;
    if (!FindTrigger(relation, NameOf(prefix, kind), &found)) return false;
    Remove(found.oid);
    return true;
}

void RequireVisible(Oid root, Oid relation) {
    const char relkind = get_rel_relkind(relation);
    if (relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE) return;
    if (relkind == '\0')
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relation)));
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("changes of foreign table \"%s\" cannot be seen", get_rel_name(relation)),
                    errdetail("It is a partition or child of \"%s\".", get_rel_name(root)),
                    errhint("A table that is audited or has a change feed can't have foreign tables "
                            "below it.")));
}

// Superuser for the catalogs' sake; nothing of the table's owner runs meanwhile.
struct Change {
    pg::Identity caller;
    SubTransactionId outer;
};

Change BeginChange() {
    const SubTransactionId outer = pg::SetMarker(&changing);
    return {pg::BecomeOwner(), outer};
}

void EndChange(const Change &change) {
    pg::BecomeCaller(change.caller);
    pg::ResetMarker(&changing, change.outer);
}

}  // namespace

void EnsureTriggers(Oid root, const Oid *tree, int count, const TriggerSet &set) {
    const Change change = BeginChange();
    for (int i = 0; i < count; i++) {
        RequireVisible(root, tree[i]);
        for (int kind = 0; kind < kKindCount; kind++) {
            if (ProblemOf(tree[i], set, kind) == nullptr) continue;
            (void)RemoveKind(tree[i], set.prefix, kind);
            if (WantedType(tree[i], set, kind) != 0) Create(tree[i], set, kind);
        }
    }
    EndChange(change);
}

void EnsureMemberTriggers(Oid root, Oid relation, const TriggerSet &set) { EnsureTriggers(root, &relation, 1, set); }

bool RemoveTriggers(const Oid *tree, int count, const char *prefix) {
    const Change change = BeginChange();
    bool removed = false;
    for (int i = 0; i < count; i++)
        for (int kind = 0; kind < kKindCount; kind++) removed = RemoveKind(tree[i], prefix, kind) || removed;
    EndChange(change);
    return removed;
}

const char *FindTriggerProblem(Oid relation, const TriggerSet &set) {
    for (int kind = 0; kind < kKindCount; kind++) {
        const char *problem = ProblemOf(relation, set, kind);
        if (problem != nullptr) return problem;
    }
    return nullptr;
}

const char *FindTriggerProblem(Oid relation, const TriggerSet &set, const char *trigger) {
    for (int kind = 0; kind < kKindCount; kind++)
        if (std::strcmp(NameOf(set.prefix, kind), trigger) == 0) return ProblemOf(relation, set, kind);
    return "it has another name";
}

bool ChangingTriggers() { return pg::IsSet(changing); }

}  // namespace herald
