// See intake.hpp. Scans go straight to the tables: one snapshot for all of them, no plan, no sort.

#include "dispatch/intake.hpp"

#include <algorithm>
#include <vector>

#include "log/key_hash.hpp"
#include "pg/extension.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "storage/lmgr.h"
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

void ScanTable(Oid table, const pg::TableForm &form, core::Scheduler *scheduler, uint8 segment, RowVisitor visit) {
    Relation relation = pg::OpenTable(table, AccessShareLock, form);
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

// Parked tasks are sorted in portions, too, but for those with a key.
enum ParkedColumn : AttrNumber {
    kParkedSubscription = 1,
    kParkedMessage,
    kParkedChannel,
    kParkedPublishedAt,
    kParkedPublishedBy,
    kParkedKey,
    kParkedHeaders,
    kParkedPayload,
    kParkedSchemaVersion,
    kParkedAttempts,
    kParkedDue,
};
struct Waiting {
    core::SubscriptionId subscription;
    core::MessageRef message;
    int32 attempts;
    core::Microseconds due;
};
std::vector<Waiting> *waiting = nullptr;
std::vector<Waiting> *waiting_keyed = nullptr;

void AddParkedInOrder(core::Scheduler *scheduler, std::vector<Waiting> *found) {
    std::sort(found->begin(), found->end(),
              [](const Waiting &a, const Waiting &b) { return a.message.id < b.message.id; });
    for (const Waiting &each : *found) {
        // What rotation has parked is not to wait for a time, and may be very many.
        if (each.attempts == 0 && each.due == each.message.published_at)
            scheduler->AddAgain(each.subscription, each.message);
        else
            scheduler->AddParked(each.subscription, each.message, each.attempts, each.due);
    }
    found->clear();
}

void VisitParked(core::Scheduler *scheduler, TupleTableSlot *row, uint8 segment) {
    bool is_null;
    Waiting task;
    task.subscription = DatumGetInt32(slot_getattr(row, kParkedSubscription, &is_null));
    task.message.id = DatumGetInt64(slot_getattr(row, kParkedMessage, &is_null));
    task.message.published_at = DatumGetTimestampTz(slot_getattr(row, kParkedPublishedAt, &is_null));
    task.message.block = 0;
    task.message.offset = 0;
    task.message.segment = segment;
    Datum key = slot_getattr(row, kParkedKey, &is_null);
    task.message.key_hash = is_null ? 0 : HashOfKey(DatumGetTextPP(key));
    bool ignored;
    task.attempts = DatumGetInt32(slot_getattr(row, kParkedAttempts, &ignored));
    task.due = DatumGetTimestampTz(slot_getattr(row, kParkedDue, &ignored));
    (is_null ? waiting : waiting_keyed)->push_back(task);
    if (waiting->size() == kPortion) AddParkedInOrder(scheduler, waiting);
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
    waiting = new std::vector<Waiting>;
    waiting_keyed = new std::vector<Waiting>;
    ScanTable(pg::Tables().parked_store, kParkedForm, scheduler, core::kParkedSegment, VisitParked);
    AddParkedInOrder(scheduler, waiting);
    AddParkedInOrder(scheduler, waiting_keyed);
    delete waiting;
    delete waiting_keyed;
}

// Locked first, seen second: a segment that is emptied in between would be missed together with what was
// parked of it.
void LockLog(const pg::ExtensionTables &tables) {
    for (Oid table : tables.settled) LockRelationOid(table, AccessShareLock);
    for (Oid table : tables.log) LockRelationOid(table, AccessShareLock);
    PopActiveSnapshot();
    PushActiveSnapshot(GetTransactionSnapshot());
}

void ScanAll(core::Scheduler *scheduler) {
    const pg::ExtensionTables tables = pg::Tables();
    LockLog(tables);
    for (Oid settled : tables.settled) ScanTable(settled, kSettledForm, scheduler, 0, VisitSettled);
    ScanParked(scheduler);
    keyed = new std::vector<Found>;
    others = new std::vector<Found>;
    for (int segment = 0; segment < pg::kSegments; segment++)
        ScanTable(tables.log[segment], kLogForm, scheduler, static_cast<uint8>(segment), VisitLog);
    AddInOrder(scheduler, others);
    AddInOrder(scheduler, keyed);
    delete keyed;
    delete others;
}

}  // namespace herald
