// See trail_tables.hpp.

#include "pg/pg.hpp"

#include "audit/trail_tables.hpp"

#include "audit/segments.hpp"
#include "pg/epoch.hpp"
#include "pg/extension.hpp"
#include "pg/index_entries.hpp"
#include "tables/id_store.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

AuditSegment segments[kAuditSegments];
bool known[kAuditSegments];
pg::Epoch epoch;

// Ids that a backend takes at once; what it doesn't use is never used.
constexpr int64 kIdsAtOnce = 1000;

struct Ids {
    IdCounter counter;
    Oid table;  // that they were drawn from
    int64 next;
    int64 end;
};

Ids audit_ids = {IdCounter::kAudit, InvalidOid, 0, 0};
Ids context_ids = {IdCounter::kAuditContext, InvalidOid, 0, 0};

void OnRelationChange(Datum, Oid relation) {
    epoch.End();
    for (int i = 0; i < kAuditSegments; i++)
        if (!OidIsValid(relation) || segments[i].table == relation || segments[i].context == relation) known[i] = false;
}

void WatchRelations() {
    static bool watched = false;
    if (watched) return;
    CacheRegisterRelcacheCallback(OnRelationChange, static_cast<Datum>(0));
    watched = true;
}

Oid Lookup(const char *name) {
    const Oid oid = get_relname_relid(name, pg::Tables().internal);
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("extension \"pg_herald\" lacks its relation \"herald_internal.%s\"", name),
                        errhint("Run ALTER EXTENSION pg_herald UPDATE, or create the extension again.")));
    return oid;
}

// Where the oid of an index of ours belongs, by its only column; NULL: it is none of ours, or not in use yet.
Oid *PlaceOf(AuditSegment *segment, Relation index, bool of_context) {
    const Form_pg_index form = index->rd_index;
    if (form->indnatts != 1 || !form->indisready) return nullptr;
    const int column = form->indkey.values[0];
    const bool is_brin = index->rd_rel->relam == BRIN_AM_OID;
    const bool is_btree = index->rd_rel->relam == BTREE_AM_OID;
    const bool is_partial = RelationGetIndexPredicate(index) != NIL;
    if (of_context) return is_btree && column == kContextId && !is_partial ? &segment->context_index : nullptr;
    if (is_brin && column == kAuditChangedAt && !is_partial) return &segment->time_index;
    if (is_btree && column == kAuditRecordHash && !is_partial) return &segment->record_index;
    if (is_btree && column == kAuditOldRecordHash && is_partial) return &segment->old_record_index;
    return nullptr;
}

void FindIndexes(AuditSegment *segment, Oid table, bool of_context) {
    OtherIndexes *others = of_context ? &segment->context_others : &segment->others;
    Relation relation = table_open(table, AccessShareLock);
    List *indexes = RelationGetIndexList(relation);
    ListCell *cell;
    foreach (cell, indexes) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        Oid *place = PlaceOf(segment, index, of_context);
        if (place == nullptr || OidIsValid(*place)) {
            if (others->count == lengthof(others->index))
                ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                                errmsg("\"herald_internal.%s\" has too many indexes that are not pg_herald's",
                                       RelationGetRelationName(relation)),
                                errhint("Drop index \"%s\".", RelationGetRelationName(index))));
            place = &others->index[others->count++];
        }
        *place = lfirst_oid(cell);
        index_close(index, AccessShareLock);
    }
    list_free(indexes);
    table_close(relation, AccessShareLock);
}

int64 Next(Ids *ids) {
    const Oid table = pg::Tables().id_store;
    if (ids->next == ids->end || ids->table != table) {
        const int64 first = DrawIds(ids->counter, kIdsAtOnce);
        *ids = {ids->counter, table, first, first + kIdsAtOnce};
    }
    return ids->next++;
}

}  // namespace

const AuditSegment &SegmentTables(int segment) {
    if (known[segment]) return segments[segment];
    WatchRelations();
    char name[NAMEDATALEN];
    AuditSegment found{};
    const pg::Stamp begun = epoch.Now();
    snprintf(name, sizeof(name), "audit_%d", segment);
    found.table = Lookup(name);
    snprintf(name, sizeof(name), "audit_context_%d", segment);
    found.context = Lookup(name);
    FindIndexes(&found, found.table, false);
    FindIndexes(&found, found.context, true);
    segments[segment] = found;
    known[segment] = epoch.Is(begun);
    return segments[segment];
}

int64 NextAuditId() { return Next(&audit_ids); }
int64 NextAuditContextId() { return Next(&context_ids); }

void InsertIndexEntry(Relation table, Oid index, Datum value, ItemPointer row) {
    if (!OidIsValid(index)) return;
    Relation relation = index_open(index, RowExclusiveLock);
    IndexInfo *info = makeNode(IndexInfo);
    bool is_null = false;
    info->ii_Context = CurrentMemoryContext;
    (void)index_insert(relation, &value, &is_null, row, table, UNIQUE_CHECK_NO, false, info);
    pg::FinishIndexInserts(relation, info);
    index_close(relation, NoLock);
    pfree(info);
}

void InsertOtherEntries(Relation table, const OtherIndexes &indexes, TupleTableSlot **slots, int count) {
    pg::EnterInIndexes(table, indexes.index, indexes.count, slots, count);
}

void InsertOtherEntries(Relation table, const OtherIndexes &indexes, HeapTuple row) {
    if (indexes.count == 0) return;
    TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);
    ExecStoreHeapTuple(row, slot, false);
    slot->tts_tid = row->t_self;
    InsertOtherEntries(table, indexes, &slot, 1);
    ExecDropSingleTupleTableSlot(slot);
}

}  // namespace herald
