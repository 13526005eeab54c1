// See table_shape.hpp. Shapes are found by the relation's oid. An invalidation only marks what it concerns,
// because somebody may be using it: what is marked is handed to the transaction's memory at once, and so goes
// with the transaction.

#include "pg/epoch.hpp"
#include "change/table_shape.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_index.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
}

namespace herald {

namespace {

struct CachedShape {
    Oid relation;  // the key of the hash table
    MemoryContext context;
    TableShape *shape;
    Oid *relations;  // of composite types in it
    int relation_count;
};

// More than this many relations are seldom written to by one session: then all is made anew.
constexpr long kMaxShapes = 4096;

HTAB *shapes = nullptr;
pg::Epoch epoch;

void Forget(CachedShape *cached) {
    if (TopTransactionContext != nullptr)
        MemoryContextSetParent(cached->context, TopTransactionContext);
    else
        MemoryContextDelete(cached->context);
    const Oid relation = cached->relation;
    (void)hash_search(shapes, &relation, HASH_REMOVE, nullptr);
}

bool Concerns(const CachedShape *cached, Oid relation) {
    if (relation == InvalidOid || cached->relation == relation) return true;
    for (int i = 0; i < cached->relation_count; i++)
        if (cached->relations[i] == relation) return true;
    return false;
}

void OnRelationChange(Datum, Oid relation) {
    HASH_SEQ_STATUS scan;
    epoch.End();
    hash_seq_init(&scan, shapes);
    while (auto *cached = static_cast<CachedShape *>(hash_seq_search(&scan)))
        if (Concerns(cached, relation)) Forget(cached);
}

// A cast to json has come or gone.
void OnCastChange(Datum, pg::SyscacheNumber, uint32) { OnRelationChange(static_cast<Datum>(0), InvalidOid); }

void InitShapes() {
    HASHCTL control{};
    control.keysize = sizeof(Oid);
    control.entrysize = sizeof(CachedShape);
    shapes = hash_create("pg_herald table shapes", 64, &control, HASH_ELEM | HASH_BLOBS);
    CacheRegisterRelcacheCallback(OnRelationChange, static_cast<Datum>(0));
    CacheRegisterSyscacheCallback(CASTSOURCETARGET, OnCastChange, static_cast<Datum>(0));
}

int CompareColumns(const void *a, const void *b) {
    auto *left = static_cast<const ShapeColumn *>(a);
    auto *right = static_cast<const ShapeColumn *>(b);
    return CompareKeyNames(left->name, left->name_length, right->name, right->name_length);
}

void FillRowShape(ShapeBuilder *builder, RowShape *row, TupleDesc desc) {
    MemoryContext caller = MemoryContextSwitchTo(builder->context);
    // With constraints, because these have the values of columns that were added later.
    row->desc = CreateTupleDescCopyConstr(desc);
    row->columns = static_cast<ShapeColumn *>(palloc0(sizeof(ShapeColumn) * Max(desc->natts, 1)));
    row->all = static_cast<int16 *>(palloc(sizeof(int16) * Max(desc->natts, 1)));
    row->index_of = static_cast<int16 *>(palloc(sizeof(int16) * Max(desc->natts, 1)));
    MemoryContextSwitchTo(caller);

    row->column_count = 0;
    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute attribute = TupleDescAttr(row->desc, i);
        row->index_of[i] = -1;
        if (attribute->attisdropped) continue;
        ShapeColumn *column = &row->columns[row->column_count++];
        column->number = static_cast<AttrNumber>(i + 1);
        column->by_value = attribute->attbyval;
        column->length = attribute->attlen;
        pg::CopyString(column->name, NameStr(attribute->attname), sizeof(column->name));
        column->name_length = static_cast<int16>(std::strlen(column->name));
        column->conversion = MakeConversion(builder, attribute->atttypid);
    }
    qsort(row->columns, row->column_count, sizeof(ShapeColumn), CompareColumns);
    for (int i = 0; i < row->column_count; i++) {
        row->all[i] = static_cast<int16>(i);
        row->index_of[row->columns[i].number - 1] = static_cast<int16>(i);
    }
}

int CompareIndexes(const void *a, const void *b) {
    return *static_cast<const int16 *>(a) - *static_cast<const int16 *>(b);
}

void FillKey(TableShape *shape, MemoryContext context) {
    AttrNumber columns[INDEX_MAX_KEYS];
    shape->key_count = FindKeyColumns(shape->relation, columns);
    shape->key = static_cast<int16 *>(MemoryContextAlloc(context, sizeof(int16) * Max(shape->key_count, 1)));
    for (int i = 0; i < shape->key_count; i++) shape->key[i] = shape->row.index_of[columns[i] - 1];
    qsort(shape->key, shape->key_count, sizeof(int16), CompareIndexes);
}

}  // namespace

int CompareKeyNames(const char *a, int a_length, const char *b, int b_length) {
    if (a_length != b_length) return a_length < b_length ? -1 : 1;
    return std::memcmp(a, b, a_length);
}

// A deferrable primary key identifies rows as well.
int FindKeyColumns(Oid relation, AttrNumber *columns) {
    ScanKeyData key;
    int count = 0;
    bool primary = false;
    ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
    Relation indexes = table_open(IndexRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(indexes, IndexIndrelidIndexId, true, nullptr, 1, &key);
    for (HeapTuple tuple; !primary && HeapTupleIsValid(tuple = systable_getnext(scan));) {
        const FormData_pg_index *index = reinterpret_cast<FormData_pg_index *>(GETSTRUCT(tuple));
        if (!index->indislive || (!index->indisprimary && !index->indisreplident)) continue;
        primary = index->indisprimary;
        count = index->indnkeyatts;
        for (int i = 0; i < count; i++) columns[i] = index->indkey.values[i];
    }
    systable_endscan(scan);
    table_close(indexes, AccessShareLock);
    return count;
}

int FindColumn(const RowShape &row, const char *name) {
    const int length = static_cast<int>(std::strlen(name));
    for (int i = 0; i < row.column_count; i++)
        if (row.columns[i].name_length == length && std::memcmp(row.columns[i].name, name, length) == 0) return i;
    return -1;
}

const RowShape *MakeRowShape(ShapeBuilder *builder, TupleDesc desc) {
    RowShape *row = static_cast<RowShape *>(MemoryContextAllocZero(builder->context, sizeof(RowShape)));
    FillRowShape(builder, row, desc);
    return row;
}

const RowShape *MakeCompositeShape(ShapeBuilder *builder, Oid type) {
    const Size size = sizeof(Oid) * (builder->relation_count + 1);
    builder->relations = static_cast<Oid *>(builder->relations == nullptr ? MemoryContextAlloc(builder->context, size)
                                                                          : repalloc(builder->relations, size));
    builder->relations[builder->relation_count++] = get_typ_typrelid(type);
    TupleDesc desc = lookup_rowtype_tupdesc(type, -1);
    const RowShape *row = MakeRowShape(builder, desc);
    ReleaseTupleDesc(desc);
    return row;
}

const TableShape *ShapeOf(Relation relation) {
    const Oid oid = RelationGetRelid(relation);
    if (shapes == nullptr) InitShapes();
    auto *cached = static_cast<CachedShape *>(hash_search(shapes, &oid, HASH_FIND, nullptr));
    if (cached != nullptr) return cached->shape;
    if (hash_get_num_entries(shapes) >= kMaxShapes) OnRelationChange(static_cast<Datum>(0), InvalidOid);

    // Made in the transaction's memory, and kept where nothing has changed meanwhile.
    const pg::Stamp begun = epoch.Now();
    MemoryContext context = AllocSetContextCreate(TopTransactionContext, "pg_herald table shape", ALLOCSET_SMALL_SIZES);
    ShapeBuilder builder{context, nullptr, 0, 0};
    auto *shape = static_cast<TableShape *>(MemoryContextAllocZero(context, sizeof(TableShape)));
    shape->relation = oid;
    FillRowShape(&builder, &shape->row, RelationGetDescr(relation));
    FillKey(shape, context);
    shape->needs = builder.needs;
    if (!epoch.Is(begun)) return shape;

    bool found;
    cached = static_cast<CachedShape *>(hash_search(shapes, &oid, HASH_ENTER, &found));
    *cached = {oid, context, shape, builder.relations, builder.relation_count};
    MemoryContextSetParent(context, CacheMemoryContext);
    return shape;
}

}  // namespace herald
