// See log_reader.hpp.

#include "log/log_reader.hpp"

#include "log/log_table.hpp"
#include "log/recent.hpp"
#include "pg/extension.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

// How many blocks to each side of where it should be a message is looked for, in every segment, before all
// are read. Sessions that write at the same time get blocks of their own, up to 512 at once.
constexpr int64 kNear[] = {64, 1024};

// Copies a row; the tuple may lie in a buffer that is let go afterwards.
void Unpack(HeapTuple tuple, TupleDesc descriptor, StoredMessage *message) {
    // There may be more columns than the library knows.
    Datum values[MaxHeapAttributeNumber];
    bool nulls[MaxHeapAttributeNumber];

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
    message->schema_version = nulls[kLogSchemaVersion - 1] ? 0 : DatumGetInt32(values[kLogSchemaVersion - 1]);
}

int64 IdOf(HeapTuple tuple, TupleDesc descriptor) {
    bool is_null;
    return DatumGetInt64(heap_getattr(tuple, kLogId, descriptor, &is_null));
}

// The tuple of that id in a block, whether or not it is visible, or (where `id` is 0) the first one. Returns
// its id; 0: there is none.
int64 LookIntoBlock(Relation log, BlockNumber block, int64 id, ItemPointerData *tid) {
    int64 found = 0;
    Buffer buffer = ReadBuffer(log, block);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    const OffsetNumber last = PageGetMaxOffsetNumber(page);
    for (OffsetNumber offset = FirstOffsetNumber; offset <= last && found == 0; offset++) {
        ItemId item = PageGetItemId(page, offset);
        if (!ItemIdIsNormal(item)) continue;
        HeapTupleData tuple{};
        tuple.t_data = reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item));
        tuple.t_len = ItemIdGetLength(item);
        const int64 here = IdOf(&tuple, RelationGetDescr(log));
        if (id != 0 && here != id) continue;
        found = here;
        ItemPointerSet(tid, block, offset);
    }
    UnlockReleaseBuffer(buffer);
    return found;
}

// The first block from which on ids are about as large: they are drawn just before the rows are written, so
// that they rise with the blocks, but for what sessions do at the same time.
BlockNumber BlockNear(Relation log, BlockNumber blocks, int64 id) {
    ItemPointerData tid;
    BlockNumber low = 0;
    BlockNumber high = blocks;
    while (low < high) {
        CHECK_FOR_INTERRUPTS();
        const BlockNumber middle = low + (high - low) / 2;
        // Blocks without a row (of a transaction that was rolled back) tell nothing.
        BlockNumber probe = middle;
        int64 first = 0;
        while (probe < high && (first = LookIntoBlock(log, probe, 0, &tid)) == 0) {
            CHECK_FOR_INTERRUPTS();
            probe++;
        }
        if (first != 0 && first <= id)
            low = probe + 1;
        else
            high = middle;
    }
    return low;
}

// Looks around the place where the message should be. kUnseen: it is there, but not for this snapshot, so
// that it need not be looked for elsewhere.
enum class Nearby { kNotFound, kRead, kUnseen };

Nearby FindNearby(int segment, int64 id, int64 within, StoredMessage *message) {
    ItemPointerData tid;
    int64 found = 0;
    Relation log = pg::OpenTable(pg::Tables().log[segment], AccessShareLock, kLogForm);
    const int64 blocks = RelationGetNumberOfBlocks(log);
    const int64 near = blocks == 0 ? 0 : BlockNear(log, static_cast<BlockNumber>(blocks), id);
    for (int64 distance = 0; distance <= within && found == 0; distance++) {
        CHECK_FOR_INTERRUPTS();
        for (int64 block : {near - 1 - distance, near + distance})
            if (block >= 0 && block < blocks && found == 0)
                found = LookIntoBlock(log, static_cast<BlockNumber>(block), id, &tid);
    }
    Nearby result = Nearby::kNotFound;
    if (found != 0) result = ReadMessage(segment, tid, id, message) ? Nearby::kRead : Nearby::kUnseen;
    // Only now: it must not be emptied in between.
    table_close(log, AccessShareLock);
    return result;
}

bool FindAnywhere(int segment, int64 id, StoredMessage *message) {
    bool found = false;
    Relation log = pg::OpenTable(pg::Tables().log[segment], AccessShareLock, kLogForm);
    TableScanDesc scan = pg::BeginTableScan(log, GetActiveSnapshot());
    for (HeapTuple tuple; !found && HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection));) {
        CHECK_FOR_INTERRUPTS();
        found = IdOf(tuple, RelationGetDescr(log)) == id;
        if (found) Unpack(tuple, RelationGetDescr(log), message);
    }
    table_endscan(scan);
    table_close(log, AccessShareLock);
    return found;
}

}  // namespace

bool ReadMessage(int segment, ItemPointerData tid, int64 id, StoredMessage *message) {
    if (segment < 0 || segment >= pg::kSegments || !ItemPointerIsValid(&tid)) return false;

    Relation log = pg::OpenTable(pg::Tables().log[segment], AccessShareLock, kLogForm);
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
    int recent_segment;
    ItemPointerData tid;
    if (RecentAddress(id, &recent_segment, &tid) && ReadMessage(recent_segment, tid, id, message)) return true;
    for (int64 blocks : kNear)
        for (int segment = 0; segment < pg::kSegments; segment++) {
            const Nearby result = FindNearby(segment, id, blocks, message);
            if (result != Nearby::kNotFound) return result == Nearby::kRead;
        }
    for (int segment = 0; segment < pg::kSegments; segment++)
        if (FindAnywhere(segment, id, message)) return true;
    return false;
}

}  // namespace herald
