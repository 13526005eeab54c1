// See target_store.hpp.

#include "pg/pg.hpp"

#include "audit/target_store.hpp"
#include "change/table_tree.hpp"
#include "pg/arguments.hpp"
#include "pg/extension.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/genam.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

// Columns of herald_internal.audit_target, in the order of the script.
enum StoreColumn : AttrNumber {
    kId = 1,
    kRelation,
    kSchemaName,
    kTableName,
    kSystemIdentifier,
    kDatabaseOid,
    kEnabled,
    kRecord,
    kOperations,
    kExcluded,
    kExcludedNumbers,
    kMasked,
    kMaskedNumbers,
    kHashed,
    kHashedNumbers,
    kSalt,
    kDisturbed,
};

AuditRecord RecordOfName(std::string_view name) {
    if (name == "diff") return AuditRecord::kDiff;
    if (name == "keys") return AuditRecord::kKeys;
    return AuditRecord::kFull;
}

AuditOperations OperationsOf(Datum array) {
    AuditOperations operations = {};
    int count;
    const char **names = pg::TextElements(array, &count);
    for (int i = 0; i < count; i++) {
        const std::string_view name = names[i];
        operations.insert = operations.insert || name == "insert";
        operations.update = operations.update || name == "update";
        operations.del = operations.del || name == "delete";
        operations.truncate = operations.truncate || name == "truncate";
    }
    return operations;
}

ColumnList ColumnsOf(Datum names, Datum numbers) {
    ColumnList list = {};
    Datum *elements;
    bool *nulls;
    int count;
    list.names = pg::TextElements(names, &list.count);
    list.numbers = static_cast<AttrNumber *>(palloc0(sizeof(AttrNumber) * Max(list.count, 1)));
    deconstruct_array(DatumGetArrayTypeP(numbers), INT2OID, sizeof(int16), true, TYPALIGN_SHORT, &elements, &nulls,
                      &count);
    for (int i = 0; i < Min(count, list.count); i++)
        list.numbers[i] = nulls[i] ? InvalidAttrNumber : DatumGetInt16(elements[i]);
    return list;
}

StoredTarget Unpack(HeapTuple tuple, TupleDesc descriptor) {
    StoredTarget target = {};
    auto get = [&](StoreColumn column) {
        bool is_null;
        return heap_getattr(tuple, column, descriptor, &is_null);
    };
    target.id = DatumGetInt32(get(kId));
    target.enabled = DatumGetBool(get(kEnabled));
    target.disturbed = DatumGetBool(get(kDisturbed));
    target.relation = DatumGetObjectId(get(kRelation));
    target.schema_name = TextDatumGetCString(get(kSchemaName));
    target.table_name = TextDatumGetCString(get(kTableName));
    target.in_place = std::strcmp(TextDatumGetCString(get(kSystemIdentifier)), OwnSystemIdentifier()) == 0 &&
                      DatumGetInt64(get(kDatabaseOid)) == static_cast<int64>(MyDatabaseId);
    if (!target.in_place && OidIsValid(target.relation)) {
        const Oid schema = get_namespace_oid(target.schema_name, true);
        target.relation = OidIsValid(schema) ? get_relname_relid(target.table_name, schema) : InvalidOid;
    }
    target.record = RecordOfName(TextDatumGetCString(get(kRecord)));
    target.operations = OperationsOf(get(kOperations));
    target.excluded = ColumnsOf(get(kExcluded), get(kExcludedNumbers));
    target.masked = ColumnsOf(get(kMasked), get(kMaskedNumbers));
    target.hashed = ColumnsOf(get(kHashed), get(kHashedNumbers));
    bytea *salt = DatumGetByteaPCopy(get(kSalt));
    target.salt = reinterpret_cast<const uint8 *>(VARDATA(salt));
    target.salt_length = static_cast<int>(VARSIZE(salt) - VARHDRSZ);
    return target;
}

}  // namespace

const char *OwnSystemIdentifier() { return psprintf(UINT64_FORMAT, GetSystemIdentifier()); }

StoredTarget *ReadStoredTargets(int *count) {
    *count = 0;
    if (!pg::ExtensionExists()) return nullptr;
    // The script of the extension may be just running: then not all of it is there.
    const Oid schema = pg::InternalSchema();
    const Oid store = OidIsValid(schema) ? get_relname_relid("audit_target", schema) : InvalidOid;
    if (!OidIsValid(store)) return nullptr;

    int room = 16;
    StoredTarget *targets = static_cast<StoredTarget *>(palloc(sizeof(StoredTarget) * 16));
    Relation table = pg::OpenTable(store, AccessShareLock, kAuditTargetForm);
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, nullptr, 0, nullptr);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        if (*count == room) {
            room *= 2;
            targets = static_cast<StoredTarget *>(repalloc(targets, sizeof(StoredTarget) * static_cast<Size>(room)));
        }
        targets[(*count)++] = Unpack(tuple, RelationGetDescr(table));
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return targets;
}

const char *ColumnName(Oid relation, AttrNumber number) {
    const char *name = get_attname(relation, number, true);
    // That of a dropped column is found by its number only.
    return name == nullptr || get_attnum(relation, name) != number ? nullptr : name;
}

AttrNumber *ColumnNumbers(const StoredTarget &target, const ColumnList &list) {
    AttrNumber *numbers = static_cast<AttrNumber *>(palloc0(sizeof(AttrNumber) * Max(list.count, 1)));
    for (int i = 0; i < list.count; i++) {
        if (!target.in_place)
            numbers[i] = get_attnum(target.relation, list.names[i]);
        else if (ColumnName(target.relation, list.numbers[i]) != nullptr)
            numbers[i] = list.numbers[i];
        else
            numbers[i] = get_attnum(target.relation, list.names[i]);  // dropped, and come back
    }
    return numbers;
}

const StoredTarget *FindEnrolled(Oid relation, const StoredTarget *targets, int count) {
    for (int i = 0; i < count; i++)
        if (targets[i].enabled && targets[i].relation == relation) return &targets[i];
    int parent_count;
    const Oid *parents = ParentsOf(relation, &parent_count);
    for (int i = 0; i < parent_count; i++) {
        const StoredTarget *found = FindEnrolled(parents[i], targets, count);
        if (found != nullptr) return found;
    }
    return nullptr;
}

}  // namespace herald
