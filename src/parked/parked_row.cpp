// See parked_row.hpp.

#include "pg/pg.hpp"

#include "parked/parked_row.hpp"

#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/saved_plan.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

// By the place of its name in kParkedForm.
enum ParkedColumn : AttrNumber {
    kSubscriptionId = 1,
    kMessageId,
    kChannelId,
    kPublishedAt,
    kPublishedBy,
    kKey,
    kHeaders,
    kPayload,
    kSchemaVersion,
};

pg::SavedPlan upsert_parked = {"INSERT INTO herald_internal.parked_store (" HERALD_PARKED_COLUMNS
                               ", next_attempt_at) "
                               "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) "
                               "ON CONFLICT (subscription_id, message_id) DO UPDATE "
                               "SET attempts = excluded.attempts, next_attempt_at = excluded.next_attempt_at"};

// The primary key's index; InvalidOid where it is not as the script made it: then the table is read through.
Oid KeyIndex(Relation parked) {
    list_free(RelationGetIndexList(parked));
    if (!OidIsValid(parked->rd_pkindex)) return InvalidOid;
    Relation index = index_open(parked->rd_pkindex, AccessShareLock);
    const Form_pg_index form = index->rd_index;
    const bool as_made =
        form->indnkeyatts == 2 && form->indkey.values[0] == kSubscriptionId && form->indkey.values[1] == kMessageId;
    index_close(index, NoLock);
    return as_made ? parked->rd_pkindex : InvalidOid;
}

// In the current context; NULL: it is not parked.
HeapTuple FindRow(Relation parked, int32 subscription_id, int64 message_id, Snapshot snapshot) {
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], kSubscriptionId, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(subscription_id));
    ScanKeyInit(&keys[1], kMessageId, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(message_id));
    const Oid index = KeyIndex(parked);
    SysScanDesc scan = systable_beginscan(parked, index, OidIsValid(index), snapshot, 2, keys);
    HeapTuple row = systable_getnext(scan);
    if (HeapTupleIsValid(row)) row = heap_copytuple(row);
    systable_endscan(scan);
    return row;
}

// A transaction that has the row locked may remove the task with its subscription. It can't be waited for.
TM_Result LockRow(Relation parked, HeapTuple row, Snapshot snapshot) {
    TM_FailureData failure;
    TupleTableSlot *slot = table_slot_create(parked, nullptr);
    const TM_Result result = table_tuple_lock(parked, &row->t_self, snapshot, slot, GetCurrentCommandId(true),
                                              LockTupleExclusive, LockWaitSkip, 0, &failure);
    ExecDropSingleTupleTableSlot(slot);
    return result;
}

bool DeleteRow(Relation parked, int32 subscription_id, int64 message_id) {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
        HeapTuple row = FindRow(parked, subscription_id, message_id, snapshot);
        const TM_Result locked = HeapTupleIsValid(row) ? LockRow(parked, row, snapshot) : TM_Ok;
        UnregisterSnapshot(snapshot);
        if (!HeapTupleIsValid(row)) return false;
        switch (locked) {
            case TM_Ok:
                simple_heap_delete(parked, &row->t_self);
                // So that later statements of the transaction don't see it.
                CommandCounterIncrement();
                return true;
            case TM_WouldBlock:
                ereport(ERROR,
                        (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("a waiting task is locked by another transaction"),
                         errdetail("Subscription %d, message " INT64_FORMAT ".", subscription_id, message_id)));
            default:  // it has changed since it was found
                break;
        }
    }
}

// The column's value in the current context; NULL for NULL.
struct varlena *CopyField(HeapTuple row, TupleDesc description, AttrNumber column) {
    bool is_null;
    const Datum value = heap_getattr(row, column, description, &is_null);
    return is_null ? nullptr : PG_DETOAST_DATUM_COPY(value);
}

}  // namespace

void ParkTask(int32 subscription_id, const StoredMessage &message, int32 attempts, TimestampTz next_attempt_at) {
    pg::AsOwner([&] {
        pg::SpiRunSaved(
            upsert_parked,
            std::array{pg::Int4(subscription_id), pg::Int8(message.id), pg::Int4(message.channel_id),
                       pg::Time(message.published_at), OptionalText(message.published_by), OptionalText(message.key),
                       OptionalJsonb(message.headers), OptionalJsonb(message.payload), SchemaVersion(message),
                       pg::Int4(attempts), pg::Time(next_attempt_at)});
    });
}

bool DeleteParked(int32 subscription_id, int64 message_id) {
    Relation parked = pg::OpenTable(pg::Tables().parked_store, RowExclusiveLock, kParkedForm);
    const bool deleted = DeleteRow(parked, subscription_id, message_id);
    table_close(parked, NoLock);
    return deleted;
}

bool ReadParked(int32 subscription_id, int64 message_id, StoredMessage *message) {
    Relation parked = pg::OpenTable(pg::Tables().parked_store, AccessShareLock, kParkedForm);
    // The snapshot keeps what the row has in TOAST.
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    HeapTuple row = FindRow(parked, subscription_id, message_id, snapshot);
    if (HeapTupleIsValid(row)) {
        TupleDesc description = RelationGetDescr(parked);
        bool is_null;
        message->id = message_id;
        message->channel_id = DatumGetInt32(heap_getattr(row, kChannelId, description, &is_null));
        message->published_at = DatumGetTimestampTz(heap_getattr(row, kPublishedAt, description, &is_null));
        message->published_by = reinterpret_cast<text *>(CopyField(row, description, kPublishedBy));
        message->key = reinterpret_cast<text *>(CopyField(row, description, kKey));
        message->headers = reinterpret_cast<Jsonb *>(CopyField(row, description, kHeaders));
        message->payload = reinterpret_cast<Jsonb *>(CopyField(row, description, kPayload));
        const Datum version = heap_getattr(row, kSchemaVersion, description, &is_null);
        message->schema_version = is_null ? 0 : DatumGetInt32(version);
    }
    UnregisterSnapshot(snapshot);
    table_close(parked, NoLock);
    return HeapTupleIsValid(row);
}

}  // namespace herald
