// See enrolment.hpp. Who calls is checked before anything is locked, and what is locked is checked again:
// it may have been dropped meanwhile, and its oid given to nobody.

#include "pg/pg.hpp"

#include "audit/enrolment.hpp"

#include "audit/audit_events.hpp"
#include "audit/column_options.hpp"
#include "change/table_shape.hpp"
#include "change/table_tree.hpp"
#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "tables/id_store.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

constexpr int kSaltBytes = 32;

pg::Param NullJsonb() { return pg::Jsonb(static_cast<Datum>(0), true); }

void RequireOwner(Oid relation) {
    const char *name = get_rel_name(relation);
    if (name == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relation)));
    if (!pg::OwnsRelation(relation, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relation)), name);
}

// An ERROR for what can't be audited.
void RequireTable(Oid relation) {
    const char *name = get_rel_name(relation);
    const char relkind = get_rel_relkind(relation);
    if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a table", name),
                        errdetail("Only tables and partitioned tables can be audited.")));
    Relation table = table_open(relation, NoLock);
    if (IsSystemRelation(table) || pg::IsOwnSchema(RelationGetNamespace(table)))
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("table \"%s\" of the system can't be audited", name)));
    if (table->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("temporary table \"%s\" can't be audited", name)));
    table_close(table, NoLock);
}

// The whole tree locked and the caller's, as for an ALTER TABLE that goes down to partitions.
Oid *LockOwnTree(Oid relation, int *count) {
    RequireOwner(relation);
    LockRelationOid(relation, ShareRowExclusiveLock);
    RequireOwner(relation);
    Oid *tree = LockTree(relation, ShareRowExclusiveLock, count);
    for (int i = 1; i < *count; i++) RequireOwner(tree[i]);
    return tree;
}

[[noreturn]] void ReportNested(Oid relation, const StoredTarget &other, const char *where, const char *hint) {
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("table \"%s\" can't be audited by itself", get_rel_name(relation)),
             errdetail("Table \"%s\".\"%s\", which is %s it, is audited.", other.schema_name, other.table_name, where),
             errhint("%s", hint)));
    pg_unreachable();
}

// The target's row, also of a table that was audited once; NULL where there is none.
const StoredTarget *FindOwnTarget(Oid relation, const StoredTarget *targets, int count) {
    const StoredTarget *found = nullptr;
    for (int i = 0; i < count; i++)
        if (targets[i].relation == relation && (found == nullptr || targets[i].enabled)) found = &targets[i];
    return found;
}

// Also as parts of a table above them.
bool NoneIsEnrolled(const Oid *tree, int tree_count, const StoredTarget *targets, int target_count) {
    for (int i = 0; i < tree_count; i++)
        if (FindEnrolled(tree[i], targets, target_count) != nullptr) return false;
    return true;
}

void RequireNoOthers(Oid relation, const StoredTarget *targets, int count) {
    for (int i = 0; i < count; i++) {
        const StoredTarget &other = targets[i];
        if (!other.enabled || !OidIsValid(other.relation) || other.relation == relation) continue;
        if (IsAbove(other.relation, relation))
            ReportNested(relation, other, "above", "Its partitions and children are audited with it.");
        if (IsAbove(relation, other.relation))
            ReportNested(relation, other, "below", "Call herald.disable_audit() for that one first.");
    }
}

void RequireNoParent(Oid relation) {
    const char *parent = ParentName(relation);
    if (parent == nullptr) return;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("table \"%s\" can't be audited by itself", get_rel_name(relation)),
             errdetail("Statements that name table \"%s\", which is above it, would not be seen.", parent),
             errhint("Call herald.enable_audit() for that one: its partitions and children are audited with it.")));
}

// The options as they are stored, for the trail. Inside of SpiBegin/SpiEnd.
Datum ReadOptions(int32 id, MemoryContext context) {
    (void)pg::SpiRun(
        "SELECT pg_catalog.jsonb_build_object('record', record, 'operations', operations,"
        " 'exclude', excluded, 'mask', masked || ARRAY(SELECT 'hash:' || h FROM pg_catalog.unnest(hashed) AS h))"
        " FROM herald_internal.audit_target WHERE id = $1",
        std::array{pg::Int4(id)});
    MemoryContext spi = MemoryContextSwitchTo(context);
    Datum options = PointerGetDatum(PG_DETOAST_DATUM_COPY(pg::SpiField(0, 1, JSONBOID).value));
    MemoryContextSwitchTo(spi);
    return options;
}

pg::Param NewSalt() {
    bytea *salt = static_cast<bytea *>(palloc(VARHDRSZ + kSaltBytes));
    SET_VARSIZE(salt, VARHDRSZ + kSaltBytes);
    if (!pg_strong_random(VARDATA(salt), kSaltBytes))
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random numbers")));
    return {BYTEAOID, PointerGetDatum(salt), false};
}

pg::Param SchemaOf(Oid relation) { return pg::Text(get_namespace_name(get_rel_namespace(relation))); }

// Returns the id. The salt stays, so that hashes can still be compared.
int32 StoreTarget(Oid relation, const CheckedOptions &options, const StoredTarget *before, const char *user) {
    const ColumnList &excluded = options.excluded, &masked = options.masked, &hashed = options.hashed;
    const int64 new_id = before == nullptr ? DrawIds(IdCounter::kAuditTarget, 1) : before->id;
    if (new_id > PG_INT32_MAX)
        ereport(ERROR, (errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
                        errmsg("too many tables were enrolled in the audit trail")));
    const pg::Param id = pg::Int4(static_cast<int32>(new_id));
    (void)pg::SpiRun(
        "INSERT INTO herald_internal.audit_target (id, relation, schema_name, table_name, system_identifier,"
        " database_oid, enabled, record, operations, excluded, excluded_numbers, masked, masked_numbers,"
        " hashed, hashed_numbers, salt, created_by)"
        " VALUES ($1, $2, $3, $4, $5, $6, true, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
        " ON CONFLICT (id) DO UPDATE SET relation = $2, schema_name = $3, table_name = $4,"
        " system_identifier = $5, database_oid = $6, enabled = true, record = $7, operations = $8,"
        " excluded = $9, excluded_numbers = $10, masked = $11, masked_numbers = $12, hashed = $13,"
        " hashed_numbers = $14, disturbed = false",
        std::array{id, pg::ObjectId(relation), SchemaOf(relation), pg::Text(get_rel_name(relation)),
                   pg::Text(OwnSystemIdentifier()), pg::Int8(MyDatabaseId), pg::Text(options.record),
                   OperationArray(options.operations), TextArray(excluded.names, excluded.count),
                   NumberArray(excluded.numbers, excluded.count), TextArray(masked.names, masked.count),
                   NumberArray(masked.numbers, masked.count), TextArray(hashed.names, hashed.count),
                   NumberArray(hashed.numbers, hashed.count), NewSalt(), pg::Text(user)});
    return DatumGetInt32(id.value);
}

// Notes the names of the key's columns where they differ from the last ones. Inside of SpiBegin/SpiEnd.
void StoreKey(int32 id, Oid relation) {
    AttrNumber key[INDEX_MAX_KEYS];
    const char *names[INDEX_MAX_KEYS];
    const int count = FindKeyColumns(relation, key);
    if (count == 0) return;
    for (int i = 0; i < count; i++) {
        names[i] = ColumnName(relation, key[i]);
        if (names[i] == nullptr) return;
    }
    (void)pg::SpiRun(
        "INSERT INTO herald_internal.audit_key (target_id, version, names, numbers, renamed)"
        " SELECT $1, COALESCE(pg_catalog.max(k.version), 0) + 1, $2, $3,"
        " COALESCE((SELECT l.numbers = $3 FROM herald_internal.audit_key AS l WHERE l.target_id = $1"
        " ORDER BY l.version DESC LIMIT 1), false)"
        " FROM herald_internal.audit_key AS k WHERE k.target_id = $1"
        " HAVING (SELECT l.names FROM herald_internal.audit_key AS l WHERE l.target_id = $1"
        " ORDER BY l.version DESC LIMIT 1) IS DISTINCT FROM $2",
        std::array{pg::Int4(id), TextArray(names, count), NumberArray(key, count)});
}

void ForgetTree(const Oid *tree, int count) {
    for (int i = 0; i < count; i++) CacheInvalidateRelcacheByRelid(tree[i]);
    InvalidateAuditTargets();
}

ColumnList Renumbered(const StoredTarget &target, const ColumnList &list) {
    ColumnList fresh = list;
    fresh.numbers = ColumnNumbers(target, list);
    fresh.names = static_cast<const char **>(palloc0(sizeof(char *) * Max(list.count, 1)));
    for (int i = 0; i < list.count; i++) {
        const char *name = fresh.numbers[i] > 0 ? ColumnName(target.relation, fresh.numbers[i]) : nullptr;
        if (name == nullptr) fresh.numbers[i] = list.numbers[i];
        fresh.names[i] = name == nullptr ? list.names[i] : name;
    }
    return fresh;
}

}  // namespace

TriggerSet AuditTriggers(const AuditOperations &operations) {
    return {"herald_audit",     "audit", nullptr, operations.insert, operations.update, operations.del,
            operations.truncate};
}

void EnableAudit(Oid relation, const AuditOptions &options) {
    MemoryContext context = CurrentMemoryContext;
    int tree_count, target_count;
    const Oid *tree = LockOwnTree(relation, &tree_count);
    RequireTable(relation);
    const StoredTarget *targets = ReadStoredTargets(&target_count);
    RequireNoOthers(relation, targets, target_count);
    RequireNoParent(relation);
    AttrNumber key[INDEX_MAX_KEYS];
    const int key_count = FindKeyColumns(relation, key);
    const CheckedOptions checked = CheckOptions(relation, options, key, key_count);
    const StoredTarget *before = FindOwnTarget(relation, targets, target_count);
    const bool altered = before != nullptr && before->enabled;

    AuditEvent event = {};
    event.operation = altered ? AuditOperation::kAlter : AuditOperation::kEnable;
    event.schema_name = get_namespace_name(get_rel_namespace(relation));
    event.table_name = get_rel_name(relation);
    event.old_detail = NullJsonb();
    const char *user = GetUserNameFromId(GetUserId(), false);
    pg::AsOwner([&] {
        if (altered) event.old_detail = pg::Jsonb(ReadOptions(before->id, context), false);
        event.target_id = StoreTarget(relation, checked, before, user);
        StoreKey(event.target_id, relation);
        event.new_detail = pg::Jsonb(ReadOptions(event.target_id, context), false);
    });

    EnsureTriggers(relation, tree, tree_count, AuditTriggers(checked.operations));
    WriteAuditEvent(event);
    ForgetTree(tree, tree_count);
    if (key_count == 0)
        ereport(NOTICE,
                (errcode(ERRCODE_SUCCESSFUL_COMPLETION), errmsg("table \"%s\" has no key", get_rel_name(relation)),
                 errdetail("Its rows are recorded in full; nothing tells which changes belong to "
                           "the same row.")));
}

void DisableAudit(Oid relation) {
    int tree_count, target_count;
    const Oid *tree = LockOwnTree(relation, &tree_count);
    const StoredTarget *targets = ReadStoredTargets(&target_count);
    const StoredTarget *target = FindOwnTarget(relation, targets, target_count);
    const bool enrolled = target != nullptr && target->enabled;
    // Triggers that came with a dump of the structure, or of this table alone.
    if (!enrolled && NoneIsEnrolled(tree, tree_count, targets, target_count) &&
        RemoveTriggers(tree, tree_count, "herald_audit"))
        return;
    if (!enrolled)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("table \"%s\" is not audited", get_rel_name(relation)),
                 errhint("herald.audited_tables lists the tables that are.")));
    RemoveTriggers(tree, tree_count, "herald_audit");
    AuditEvent event = {};
    event.operation = AuditOperation::kDisable;
    event.target_id = target->id;
    event.schema_name = get_namespace_name(get_rel_namespace(relation));
    event.table_name = get_rel_name(relation);
    event.old_detail = event.new_detail = NullJsonb();
    WriteAuditEvent(event);
    pg::AsOwner([&] {
        (void)pg::SpiRun("UPDATE herald_internal.audit_target SET enabled = false, disturbed = false WHERE id = $1",
                         std::array{pg::Int4(target->id)});
    });
    ForgetTree(tree, tree_count);
}

void RefreshTarget(const StoredTarget &target) {
    const char *schema, *name;
    // After ALTER SCHEMA … RENAME it is any table, and nobody has locked it.
    if (!ReadNames(target.relation, &schema, &name)) return;
    const ColumnList excluded = Renumbered(target, target.excluded);
    const ColumnList masked = Renumbered(target, target.masked);
    const ColumnList hashed = Renumbered(target, target.hashed);
    const uint64 updated = pg::AsOwner([&] {
        const uint64 rows = pg::SpiRun(
            "UPDATE herald_internal.audit_target SET relation = $2, schema_name = $3, table_name = $4,"
            " system_identifier = $5, database_oid = $6, excluded = $7, excluded_numbers = $8, masked = $9,"
            " masked_numbers = $10, hashed = $11, hashed_numbers = $12 WHERE id = $1"
            " AND (relation, schema_name, table_name, system_identifier, database_oid, excluded,"
            " excluded_numbers, masked, masked_numbers, hashed, hashed_numbers)"
            " IS DISTINCT FROM ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            std::array{pg::Int4(target.id), pg::ObjectId(target.relation), pg::Text(schema), pg::Text(name),
                       pg::Text(OwnSystemIdentifier()), pg::Int8(MyDatabaseId),
                       TextArray(excluded.names, excluded.count), NumberArray(excluded.numbers, excluded.count),
                       TextArray(masked.names, masked.count), NumberArray(masked.numbers, masked.count),
                       TextArray(hashed.names, hashed.count), NumberArray(hashed.numbers, hashed.count)});
        StoreKey(target.id, target.relation);
        return rows;
    });
    if (updated > 0) InvalidateAuditTargets();
}

void AdoptTarget(const StoredTarget &target) {
    RefreshTarget(target);
    AttrNumber key[INDEX_MAX_KEYS];
    const int count = FindKeyColumns(target.relation, key);
    pg::AsOwner([&] {
        // So that a key that is renamed next is known for the same one.
        (void)pg::SpiRun(
            "UPDATE herald_internal.audit_key AS k SET numbers = $2 WHERE k.target_id = $1 AND k.version ="
            " (SELECT pg_catalog.max(l.version) FROM herald_internal.audit_key AS l WHERE l.target_id = $1)",
            std::array{pg::Int4(target.id), NumberArray(key, count)});
    });
}

}  // namespace herald
