// See log_reader.hpp.

#include "log/log_reader.hpp"

#include "log/log_table.hpp"
#include "pg/extension.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

// Copies a row; the tuple may lie in a buffer that is let go afterwards.
void Unpack(HeapTuple tuple, TupleDesc descriptor, StoredMessage *message) {
    Datum values[kLogColumns];
    bool nulls[kLogColumns];

    heap_deform_tuple(tuple, descriptor, values, nulls);
    auto copy = [&](LogColumn column) -> varlena * {
        if (nulls[column - 1]) return nullptr;
        return pg_detoast_datum_copy(reinterpret_cast<varlena *>(DatumGetPointer(values[column - 1])));
    };
    message->id = DatumGetInt64(values[kLogId - 1]);
    message->channel_id = DatumGetInt32(values[kLogChannelId - 1]);
    message->published_at = DatumGetTimestampTz(values[kLogPublishedAt - 1]);
    message->published_by = copy(kLogPublishedBy);
    message->key = copy(kLogKey);
    message->headers = reinterpret_cast<Jsonb *>(copy(kLogHeaders));
    message->payload = reinterpret_cast<Jsonb *>(copy(kLogPayload));
}

int64 IdOf(HeapTuple tuple, TupleDesc descriptor) {
    bool is_null;
    return DatumGetInt64(heap_getattr(tuple, kLogId, descriptor, &is_null));
}

}  // namespace

bool ReadMessage(int segment, ItemPointerData tid, int64 id, StoredMessage *message) {
    if (segment < 0 || segment >= pg::kSegments || !ItemPointerIsValid(&tid)) return false;

    Relation log = table_open(pg::Tables().log[segment], AccessShareLock);
    bool found = false;
    // A rotated segment is shorter than the address remembers, and the heap reports that as an error.
    if (ItemPointerGetBlockNumber(&tid) < RelationGetNumberOfBlocks(log)) {
        HeapTupleData tuple;
        Buffer buffer;
        tuple.t_self = tid;
        if (heap_fetch(log, GetActiveSnapshot(), &tuple, &buffer, false)) {
            found = IdOf(&tuple, RelationGetDescr(log)) == id;
            if (found) Unpack(&tuple, RelationGetDescr(log), message);
            ReleaseBuffer(buffer);
        }
    }
    table_close(log, AccessShareLock);
    return found;
}

bool FindMessage(int64 id, StoredMessage *message) {
    bool found = false;
    for (int segment = 0; segment < pg::kSegments && !found; segment++) {
        Relation log = table_open(pg::Tables().log[segment], AccessShareLock);
        TableScanDesc scan = pg::BeginTableScan(log, GetActiveSnapshot());
        for (HeapTuple tuple;
             !found && HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection));) {
            CHECK_FOR_INTERRUPTS();
            found = IdOf(tuple, RelationGetDescr(log)) == id;
            if (found) Unpack(tuple, RelationGetDescr(log), message);
        }
        table_endscan(scan);
        table_close(log, AccessShareLock);
    }
    return found;
}

}  // namespace herald
