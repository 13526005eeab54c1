// See audit_target.hpp. Entries of the cache belong to an epoch, which any change of the tables of
// interest ends. A stale one is replaced at the next look, and freed at the end of the transaction: a
// trigger that fires within another must not free what that one still uses.

#include "pg/pg.hpp"

#include "audit/audit_target.hpp"

#include "audit/target_store.hpp"
#include "change/table_shape.hpp"
#include "change/table_tree.hpp"
#include "pg/epoch.hpp"
#include "pg/extension.hpp"
#include "pg/told_once.hpp"

extern "C" {
#include "access/table.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

struct CachedTarget {
    Oid relation;
    pg::Stamp stamp;
    MemoryContext context;
    AuditTarget *target;  // in context; NULL: not enrolled
};

HTAB *cache = nullptr;
HTAB *watched = nullptr;  // oids of relations that the entries were made from
pg::Epoch epoch;
CachedTarget *latest = nullptr;

void Forget() { epoch.End(); }

void OnRelationChange(Datum, Oid relation) {
    if (watched == nullptr) return;
    if (!OidIsValid(relation) || hash_search(watched, &relation, HASH_FIND, nullptr) != nullptr) epoch.End();
}

HTAB *CreateTable(const char *name, Size entry_size) {
    HASHCTL control;
    std::memset(&control, 0, sizeof(control));
    control.keysize = sizeof(Oid);
    control.entrysize = entry_size;
    control.hcxt = TopMemoryContext;
    return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void Watch(Oid relation) {
    bool found;
    (void)hash_search(watched, &relation, HASH_ENTER, &found);
}

// A change of any of them may mean another target.
void WatchUpwards(Oid relation) {
    Watch(relation);
    int count;
    const Oid *parents = ParentsOf(relation, &count);
    for (int i = 0; i < count; i++) WatchUpwards(parents[i]);
}

// The column of `relation` with the name that the root's has.
AttrNumber Translate(const StoredTarget &stored, Oid relation, AttrNumber number) {
    if (relation == stored.relation || number == InvalidAttrNumber) return number;
    const char *name = ColumnName(stored.relation, number);
    return name == nullptr ? InvalidAttrNumber : get_attnum(relation, name);
}

void Treat(const StoredTarget &stored, const ColumnList &list, ColumnTreatment treatment, Oid relation,
           ColumnTreatment *columns, AuditTarget *target) {
    const AttrNumber *numbers = ColumnNumbers(stored, list);
    for (int i = 0; i < list.count; i++) {
        const AttrNumber number = Translate(stored, relation, numbers[i]);
        if (number <= 0 || number > target->column_count) continue;
        columns[number - 1] = treatment;
        target->all_recorded = false;
    }
}

// A key that has columns which must not be shown, or lacks one here, identifies nothing.
void FindKey(const StoredTarget &stored, Oid relation, AuditTarget *target) {
    AttrNumber root_key[INDEX_MAX_KEYS];
    const int count = FindKeyColumns(stored.relation, root_key);
    AttrNumber *key = static_cast<AttrNumber *>(palloc0(sizeof(AttrNumber) * Max(count, 1)));
    bool usable = count > 0;
    for (int i = 0; i < count; i++) {
        key[i] = Translate(stored, relation, root_key[i]);
        usable = usable && key[i] > 0 && key[i] <= target->column_count &&
                 target->columns[key[i] - 1] == ColumnTreatment::kRecorded;
    }
    target->key_count = usable ? count : 0;
    target->key = key;
}

AuditTarget *Build(const StoredTarget &stored, Oid relation) {
    AuditTarget *target = static_cast<AuditTarget *>(palloc0(sizeof(AuditTarget)));
    target->id = stored.id;
    target->root = stored.relation;
    target->relation = relation;
    target->record = stored.record;
    target->operations = stored.operations;
    target->all_recorded = true;

    Relation table = table_open(relation, AccessShareLock);
    target->column_count = RelationGetDescr(table)->natts;
    table_close(table, AccessShareLock);
    ColumnTreatment *columns = static_cast<ColumnTreatment *>(
        palloc0(sizeof(ColumnTreatment) * static_cast<Size>(Max(target->column_count, 1))));
    target->columns = columns;
    Treat(stored, stored.masked, ColumnTreatment::kMasked, relation, columns, target);
    Treat(stored, stored.hashed, ColumnTreatment::kHashed, relation, columns, target);
    Treat(stored, stored.excluded, ColumnTreatment::kExcluded, relation, columns, target);
    FindKey(stored, relation, target);
    // Differences would say nothing where nobody knows of which row. Who asked for keys wants no values there.
    if (target->key_count == 0 && target->record == AuditRecord::kDiff) target->record = AuditRecord::kFull;

    uint8 *salt = static_cast<uint8 *>(palloc(static_cast<Size>(stored.salt_length) + 1));
    std::memcpy(salt, stored.salt, static_cast<Size>(stored.salt_length));
    target->salt = salt;
    target->salt_length = stored.salt_length;
    return target;
}

AuditTarget *Load(Oid relation, MemoryContext context) {
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "pg_herald audit targets", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(scratch);
    int count;
    AuditTarget *target = nullptr;
    const StoredTarget *targets = ReadStoredTargets(&count);
    if (count > 0) Watch(get_relname_relid("audit_target", pg::Tables().internal));
    WatchUpwards(relation);
    const StoredTarget *stored = FindEnrolled(relation, targets, count);
    if (stored != nullptr) {
        MemoryContextSwitchTo(context);
        target = Build(*stored, relation);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(scratch);
    return target;
}

}  // namespace

const AuditTarget *FindTarget(Oid relation) {
    if (latest != nullptr && latest->relation == relation && epoch.Is(latest->stamp)) return latest->target;
    if (cache == nullptr) {
        watched = CreateTable("pg_herald watched relations", sizeof(Oid));
        cache = CreateTable("pg_herald audit targets", sizeof(CachedTarget));
    }
    bool found;
    CachedTarget *cached = static_cast<CachedTarget *>(hash_search(cache, &relation, HASH_ENTER, &found));
    if (!found) {
        cached->stamp = {};
        cached->context = nullptr;
    }
    if (!epoch.Is(cached->stamp)) {
        latest = nullptr;
        const pg::Stamp begun = epoch.Now();
        cached->stamp = {};
        if (cached->context != nullptr) MemoryContextSetParent(cached->context, TopTransactionContext);
        cached->context = nullptr;
        MemoryContext context =
            AllocSetContextCreate(CurrentMemoryContext, "pg_herald audit target", ALLOCSET_SMALL_SIZES);
        cached->target = Load(relation, context);
        MemoryContextSetParent(context, TopMemoryContext);
        cached->context = context;
        cached->stamp = begun;
    }
    latest = cached;
    return cached->target;
}

namespace {

// An enrolment whose table can't be found may be that of any table.
bool SomeTargetIsLost() {
    int count;
    bool lost = false;
    const StoredTarget *targets = ReadStoredTargets(&count);
    for (int i = 0; i < count; i++)
        lost = lost || (targets[i].enabled &&
                        (!OidIsValid(targets[i].relation) || get_rel_name(targets[i].relation) == nullptr));
    return lost;
}

void WarnOfOrphan(Oid relation) {
    static pg::ToldOnce told;
    if (!told.IsFirst(relation)) return;
    ereport(WARNING,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("table \"%s\" is not audited, but has a trigger of herald.enable_audit", get_rel_name(relation)),
             errdetail("It came with a dump of the structure alone. Nothing is recorded."),
             errhint("Call herald.enable_audit() for the table, or herald.disable_audit(), which drops the "
                     "triggers.")));
}

}  // namespace

const AuditTarget *TargetToRecord(Oid relation) {
    const AuditTarget *target = FindTarget(relation);
    if (target != nullptr) return target;
    if (SomeTargetIsLost())
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("table \"%s\" is not audited", get_rel_name(relation)),
                        errdetail("A trigger that herald.enable_audit made is on it, and a table that is to be audited "
                                  "can't be found: it may be this one."),
                        errhint("Call herald.enable_audit() for the table, or herald.disable_audit(), which drops the "
                                "triggers.")));
    WarnOfOrphan(relation);
    return nullptr;
}

void InvalidateAuditTargets() {
    CacheInvalidateRelcacheByRelid(get_relname_relid("audit_target", pg::Tables().internal));
    pg::InvalidateCatalogCaches();
    (void)GetCurrentCommandId(true);
    CommandCounterIncrement();
}

void InitAuditTargets() {
    pg::OnCatalogChange(Forget);
    CacheRegisterRelcacheCallback(OnRelationChange, static_cast<Datum>(0));
}

}  // namespace herald
