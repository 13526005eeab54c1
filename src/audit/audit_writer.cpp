// See audit_writer.hpp. Rows of a batch are formed, put into the heap together (which is one WAL record per
// page), and then entered in the indexes. The index by time gets one entry per page, as it only knows ranges of
// pages, and the time is the same for all rows of a statement.

#include "pg/pg.hpp"

#include "audit/audit_writer.hpp"

#include "audit/audit_context.hpp"
#include "audit/record_hash.hpp"
#include "audit/segments.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

constexpr Size kMaxBatchBytes = 1024 * 1024;

void OpenSegment(AuditWriter *writer) {
    writer->changed_at = GetCurrentTimestamp();
    writer->schema_name = CStringGetTextDatum(get_namespace_name(RelationGetNamespace(writer->relation)));
    writer->table_name = CStringGetTextDatum(RelationGetRelationName(writer->relation));
    const int number = AuditSegmentAt(writer->changed_at);
    const AuditSegment &segment = SegmentTables(number);
    const Oid table = segment.table;
    writer->record_index = segment.record_index;
    writer->old_record_index = segment.old_record_index;
    writer->time_index = segment.time_index;
    writer->others = segment.others;
    writer->table = pg::OpenTable(table, RowExclusiveLock, kAuditForm);
    writer->context_id = AuditContextId(number);
    if (!writer->many) return;
    writer->slots = static_cast<TupleTableSlot **>(palloc0(sizeof(TupleTableSlot *) * kAuditRowsAtOnce));
    writer->hashes = static_cast<int64 *>(palloc(sizeof(int64) * kAuditRowsAtOnce * 2));
    writer->rows = AllocSetContextCreate(CurrentMemoryContext, "pg_herald audit rows", ALLOCSET_DEFAULT_SIZES);
}

// 0 stands for none.
int64 HashOf(const AuditWriter *writer, const Jsonb *record_id) {
    return record_id == nullptr ? 0 : RecordHash(writer->target_id, record_id);
}

HeapTuple FormRow(const AuditWriter *writer, const AuditRow &row, int64 hash, int64 old_hash) {
    Datum values[kAuditColumns];
    bool nulls[kAuditColumns];
    auto set = [&](AuditColumn column, Datum value, bool is_null) {
        values[column - 1] = value;
        nulls[column - 1] = is_null;
    };
    auto set_pointer = [&](AuditColumn column, const void *value) {
        set(column, PointerGetDatum(value), value == nullptr);
    };
    set(kAuditId, Int64GetDatum(NextAuditId()), false);
    set(kAuditContextId, Int64GetDatum(writer->context_id), false);
    set(kAuditChangedAt, TimestampTzGetDatum(writer->changed_at), false);
    set(kAuditRecordHash, Int64GetDatum(hash), row.record_id == nullptr);
    set(kAuditOldRecordHash, Int64GetDatum(old_hash), row.old_record_id == nullptr);
    set(kAuditTargetId, Int32GetDatum(writer->target_id), false);
    set(kAuditSequence, Int32GetDatum(NextAuditSequence()), false);
    set(kAuditOperation, CharGetDatum(static_cast<char>(row.operation)), false);
    set(kAuditSchemaName, writer->schema_name, false);
    set(kAuditTableName, writer->table_name, false);
    set_pointer(kAuditRecordId, row.record_id);
    set_pointer(kAuditOldRecordId, row.old_record_id);
    set_pointer(kAuditOld, row.old_row);
    set_pointer(kAuditNew, row.new_row);
    set_pointer(kAuditChanged, row.changed);
    return pg::FormRow(writer->table, values, nulls, kAuditColumns);
}

// Entries of one index for rows [0, count) of the batch.
template <typename ValueOf>
void EnterRows(const AuditWriter *writer, Oid oid, ValueOf &&value_of) {
    Relation index = nullptr;
    IndexInfo *info = nullptr;
    for (int i = 0; i < writer->count; i++) {
        Datum value;
        if (!OidIsValid(oid) || !value_of(i, &value)) continue;
        if (index == nullptr) {
            index = index_open(oid, RowExclusiveLock);
            info = makeNode(IndexInfo);
            info->ii_Context = CurrentMemoryContext;
        }
        bool is_null = false;
        (void)index_insert(index, &value, &is_null, &writer->slots[i]->tts_tid, writer->table, UNIQUE_CHECK_NO, false,
                           info);
    }
    if (index == nullptr) return;
    pg::FinishIndexInserts(index, info);
    index_close(index, NoLock);
}

void Flush(AuditWriter *writer) {
    if (writer->count == 0) return;
    MemoryContext caller = MemoryContextSwitchTo(writer->rows);
    heap_multi_insert(writer->table, writer->slots, writer->count, GetCurrentCommandId(true), 0, nullptr);
    EnterRows(writer, writer->record_index, [&](int i, Datum *value) {
        *value = Int64GetDatum(writer->hashes[2 * i]);
        return writer->hashes[2 * i] != 0;
    });
    EnterRows(writer, writer->old_record_index, [&](int i, Datum *value) {
        *value = Int64GetDatum(writer->hashes[2 * i + 1]);
        return writer->hashes[2 * i + 1] != 0;
    });
    BlockNumber last = InvalidBlockNumber;
    EnterRows(writer, writer->time_index, [&](int i, Datum *value) {
        const BlockNumber page = ItemPointerGetBlockNumber(&writer->slots[i]->tts_tid);
        if (page == last) return false;
        last = page;
        *value = TimestampTzGetDatum(writer->changed_at);
        return true;
    });
    InsertOtherEntries(writer->table, writer->others, writer->slots, writer->count);
    for (int i = 0; i < writer->count; i++) ExecClearTuple(writer->slots[i]);
    MemoryContextSwitchTo(caller);
    MemoryContextReset(writer->rows);
    writer->count = 0;
    writer->bytes = 0;
}

// For the only row of a statement the machinery for many would cost more than the row.
void WriteOne(AuditWriter *writer, const AuditRow &row) {
    const int64 hash = HashOf(writer, row.record_id);
    const int64 old_hash = HashOf(writer, row.old_record_id);
    HeapTuple tuple = FormRow(writer, row, hash, old_hash);
    heap_insert(writer->table, tuple, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, nullptr);
    if (hash != 0) InsertIndexEntry(writer->table, writer->record_index, Int64GetDatum(hash), &tuple->t_self);
    if (old_hash != 0)
        InsertIndexEntry(writer->table, writer->old_record_index, Int64GetDatum(old_hash), &tuple->t_self);
    InsertIndexEntry(writer->table, writer->time_index, TimestampTzGetDatum(writer->changed_at), &tuple->t_self);
    InsertOtherEntries(writer->table, writer->others, tuple);
    heap_freetuple(tuple);
}

}  // namespace

AuditWriter BeginAudit(const AuditTarget &target, Relation relation, int64 rows_expected) {
    AuditWriter writer{};
    writer.target_id = target.id;
    writer.relation = relation;
    writer.context = CurrentMemoryContext;
    writer.many = rows_expected > 1;
    return writer;
}

void WriteAudit(AuditWriter *writer, const AuditRow &row) {
    MemoryContext caller = MemoryContextSwitchTo(writer->context);
    if (writer->table == nullptr) OpenSegment(writer);
    if (!writer->many) {
        MemoryContextSwitchTo(caller);
        WriteOne(writer, row);
        return;
    }
    const int i = writer->count;
    if (i == writer->slot_count) {
        writer->slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(writer->table), &TTSOpsHeapTuple);
        writer->slot_count++;
    }
    MemoryContextSwitchTo(writer->rows);
    writer->hashes[2 * i] = HashOf(writer, row.record_id);
    writer->hashes[2 * i + 1] = HashOf(writer, row.old_record_id);
    HeapTuple tuple = FormRow(writer, row, writer->hashes[2 * i], writer->hashes[2 * i + 1]);
    ExecStoreHeapTuple(tuple, writer->slots[i], false);
    MemoryContextSwitchTo(caller);
    writer->bytes += tuple->t_len;
    writer->count++;
    if (writer->count == kAuditRowsAtOnce || writer->bytes >= kMaxBatchBytes) Flush(writer);
}

void EndAudit(AuditWriter *writer) {
    if (writer->table == nullptr) return;
    if (writer->many) {
        Flush(writer);
        for (int i = 0; i < writer->slot_count; i++) ExecDropSingleTupleTableSlot(writer->slots[i]);
        MemoryContextDelete(writer->rows);
    }
    // The lock stays until the transaction ends: who empties a segment must not take these rows.
    table_close(writer->table, NoLock);
}

}  // namespace herald
