// See intake.hpp. Scans go straight to the tables: one snapshot for all of them, no plan, no sort.

#include "dispatch/intake.hpp"

#include <algorithm>
#include <vector>

#include "log/key_hash.hpp"
#include "pg/extension.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "utils/array.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

constexpr int kPeekSize = 1024;
// Not on the stack: they are large, and there is one dispatcher per process.
TaskEntry peeked[kPeekSize];
uint32 peeked_numbers[kPeekSize];
uint32 decided[kPeekSize];

// Messages that a scan of the log has found, to be added by id: the heap gives reused space to younger
// ones. Those with a key are all kept to the end, as their order matters; the others are sorted in
// portions, as memory matters. On the heap: an ERROR ends the process.
struct Found {
    int32 channel;
    core::MessageRef message;
};
constexpr std::size_t kPortion = 64 * 1024;
std::vector<Found> *keyed = nullptr;
std::vector<Found> *others = nullptr;

using RowVisitor = void (*)(core::Scheduler *, TupleTableSlot *, uint8 segment);

void ScanTable(Oid table, core::Scheduler *scheduler, uint8 segment, RowVisitor visit) {
    Relation relation = table_open(table, AccessShareLock);
    TableScanDesc scan = pg::BeginTableScan(relation, GetActiveSnapshot());
    TupleTableSlot *row = table_slot_create(relation, nullptr);
    MemoryContext per_row =
        AllocSetContextCreate(CurrentMemoryContext, "pg_herald scan", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(per_row);

    while (table_scan_getnextslot(scan, ForwardScanDirection, row)) {
        CHECK_FOR_INTERRUPTS();
        visit(scheduler, row, segment);
        MemoryContextReset(per_row);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(per_row);
    ExecDropSingleTupleTableSlot(row);
    table_endscan(scan);
    table_close(relation, AccessShareLock);
}

void VisitSettled(core::Scheduler *scheduler, TupleTableSlot *row, uint8) {
    bool is_null;
    int32 subscription = DatumGetInt32(slot_getattr(row, 1, &is_null));
    ArrayType *ids = DatumGetArrayTypeP(slot_getattr(row, 2, &is_null));
    const int64 *id = reinterpret_cast<const int64 *>(ARR_DATA_PTR(ids));
    int count = ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
    for (int i = 0; i < count; i++) scheduler->MarkSettled(subscription, id[i]);
}

void AddInOrder(core::Scheduler *scheduler, std::vector<Found> *found) {
    std::sort(found->begin(), found->end(),
              [](const Found &a, const Found &b) { return a.message.id < b.message.id; });
    for (const Found &each : *found) scheduler->AddMessage(each.channel, each.message);
    found->clear();
}

void VisitLog(core::Scheduler *scheduler, TupleTableSlot *row, uint8 segment) {
    bool is_null;
    core::MessageRef message;
    message.id = DatumGetInt64(slot_getattr(row, 1, &is_null));
    message.published_at = DatumGetTimestampTz(slot_getattr(row, 2, &is_null));
    int32 channel = DatumGetInt32(slot_getattr(row, 3, &is_null));
    message.block = ItemPointerGetBlockNumber(&row->tts_tid);
    message.offset = ItemPointerGetOffsetNumber(&row->tts_tid);
    message.segment = segment;
    Datum key = slot_getattr(row, 5, &is_null);
    message.key_hash = is_null ? 0 : HashOfKey(DatumGetTextPP(key));
    (is_null ? others : keyed)->push_back({channel, message});
    if (others->size() == kPortion) AddInOrder(scheduler, others);
}

}  // namespace

void TakeFromOutbox(DatabaseShared *database, Oid extension, core::Scheduler *scheduler) {
    Snapshot snapshot = GetActiveSnapshot();
    int skip = 0;

    for (;;) {
        int count =
            PeekTasks(database, skip, peeked, peeked_numbers, kPeekSize);
        int decided_count = 0;
        for (int i = 0; i < count; i++) {
            const TaskEntry &entry = peeked[i];
            const bool prepared = TransactionIdIsValid(entry.xid);
            if (prepared && XidInMVCCSnapshot(entry.xid, snapshot)) {
                skip++;
                continue;
            }
            decided[decided_count++] = peeked_numbers[i];
            if (entry.extension != extension) continue;
            if (prepared && !TransactionIdDidCommit(entry.xid)) continue;
            scheduler->AddMessage(entry.channel_id,
                                  {entry.message_id, entry.published_at, entry.block, entry.offset,
                                   entry.segment, entry.key_hash});
        }
        RemoveFromOutbox(database, Consumer::kDispatcher, decided, decided_count);
        if (count < kPeekSize) break;
        CHECK_FOR_INTERRUPTS();
    }
}

void ScanParked(core::Scheduler *scheduler) {
    pg::SpiBegin();
    uint64 count = pg::SpiRun(
        "SELECT subscription_id, message_id, published_at, attempts, next_attempt_at, key"
        " FROM herald.parked_store ORDER BY message_id");
    for (uint64 row = 0; row < count; row++) {
        core::MessageRef message = {};
        message.id = pg::SpiInt8(row, 2);
        message.published_at = DatumGetTimestampTz(pg::SpiField(row, 3).value);
        message.segment = core::kParkedSegment;
        pg::Field key = pg::SpiField(row, 6);
        message.key_hash = key.is_null ? 0 : HashOfKey(DatumGetTextPP(key.value));
        scheduler->AddParked(pg::SpiInt4(row, 1), message, pg::SpiInt4(row, 4),
                             DatumGetTimestampTz(pg::SpiField(row, 5).value));
    }
    pg::SpiEnd();
}

void ScanAll(core::Scheduler *scheduler) {
    const pg::ExtensionTables tables = pg::Tables();
    for (Oid settled : tables.settled) ScanTable(settled, scheduler, 0, VisitSettled);
    ScanParked(scheduler);
    keyed = new std::vector<Found>;
    others = new std::vector<Found>;
    for (int segment = 0; segment < pg::kSegments; segment++)
        ScanTable(tables.log[segment], scheduler, static_cast<uint8>(segment), VisitLog);
    AddInOrder(scheduler, others);
    AddInOrder(scheduler, keyed);
    delete keyed;
    delete others;
}

}  // namespace herald
