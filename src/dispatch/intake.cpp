// See intake.hpp. Scans go straight to the tables: one snapshot for all of them, no plan, no sort.

#include "dispatch/intake.hpp"

#include "core/snapshot_scan.hpp"
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

using RowVisitor = void (*)(core::SnapshotScan *, TupleTableSlot *, uint8 segment);

void ScanTable(Oid table, const pg::TableForm &form, core::SnapshotScan *found, uint8 segment, RowVisitor visit) {
    Relation relation = pg::OpenTable(table, AccessShareLock, form);
    TableScanDesc scan = pg::BeginTableScan(relation, GetActiveSnapshot());
    TupleTableSlot *row = table_slot_create(relation, nullptr);
    MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext, "pg_herald scan", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(per_row);

    while (table_scan_getnextslot(scan, ForwardScanDirection, row)) {
        CHECK_FOR_INTERRUPTS();
        visit(found, row, segment);
        MemoryContextReset(per_row);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(per_row);
    ExecDropSingleTupleTableSlot(row);
    table_endscan(scan);
    table_close(relation, AccessShareLock);
}

void VisitSettled(core::SnapshotScan *found, TupleTableSlot *row, uint8) {
    bool is_null;
    int32 subscription = DatumGetInt32(slot_getattr(row, 1, &is_null));
    ArrayType *ids = DatumGetArrayTypeP(slot_getattr(row, 2, &is_null));
    const int64 *id = reinterpret_cast<const int64 *>(ARR_DATA_PTR(ids));
    int count = ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
    for (int i = 0; i < count; i++) found->AddSettled(subscription, id[i]);
}

void VisitLog(core::SnapshotScan *found, TupleTableSlot *row, uint8 segment) {
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
    found->AddLogged(channel, message);
}

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
void VisitParked(core::SnapshotScan *found, TupleTableSlot *row, uint8 segment) {
    bool is_null;
    core::MessageRef message{};
    const int32 subscription = DatumGetInt32(slot_getattr(row, kParkedSubscription, &is_null));
    message.id = DatumGetInt64(slot_getattr(row, kParkedMessage, &is_null));
    message.published_at = DatumGetTimestampTz(slot_getattr(row, kParkedPublishedAt, &is_null));
    message.segment = segment;
    Datum key = slot_getattr(row, kParkedKey, &is_null);
    message.key_hash = is_null ? 0 : HashOfKey(DatumGetTextPP(key));
    const int32 attempts = Max(DatumGetInt32(slot_getattr(row, kParkedAttempts, &is_null)), 0);
    const TimestampTz due = DatumGetTimestampTz(slot_getattr(row, kParkedDue, &is_null));
    found->AddParked(subscription, message, attempts, due);
}

}  // namespace

bool TakeFromOutbox(DatabaseShared *database, Oid extension, core::Scheduler *scheduler) {
    int skip = 0;

    for (;;) {
        const int count = PeekTasks(database, skip, peeked, peeked_numbers, kPeekSize);
        int taken = 0;
        int left = 0;  // undecided
        TransactionId prepared = InvalidTransactionId;
        uint32 flags = 0;
        // Asked for before one of these was linked, and maybe by who linked it.
        if ((pg_atomic_read_u32(&database->processes.flags) & kFlagRescan) != 0) return false;
        // The snapshot is likewise newer than each of them: what was committed before it is.
        PopActiveSnapshot();
        PushActiveSnapshot(GetTransactionSnapshot());
        for (int i = 0; i < count; i++) {
            const TransactionId xid = PreparedAt(peeked_numbers[i], &flags);
            if (TransactionIdIsValid(xid) && XidInMVCCSnapshot(xid, GetActiveSnapshot())) {
                left++;
                continue;
            }
            if (TransactionIdIsValid(xid)) {
                prepared = xid;
                peeked_numbers[taken] = peeked_numbers[i];
                break;
            }
            const TaskEntry &entry = peeked[i];
            peeked_numbers[taken++] = peeked_numbers[i];
            if (entry.extension != extension) continue;
            scheduler->AddMessage(entry.channel_id, {entry.message_id, entry.published_at, entry.block, entry.offset,
                                                     entry.segment, entry.key_hash});
        }
        RemoveFromOutbox(database, Consumer::kDispatcher, peeked_numbers, taken);
        skip += left;
        if (TransactionIdIsValid(prepared)) {
            // Its entries are peeked next, in its place; what it asks for comes before them and whatever follows.
            const bool committed = TransactionIdDidCommit(prepared);
            flags = committed ? flags & ~static_cast<uint32>(kFlagDeadLetters) : 0;
            EndPrepared(database, Consumer::kDispatcher, peeked_numbers[taken], committed);
            if (flags == 0) continue;
            RaiseFlag(database, flags);
            if ((flags & kFlagReloadAnnouncer) != 0) WakeConsumer(database, Consumer::kAnnouncer);
            return false;
        }
        if (count < kPeekSize) return true;
        CHECK_FOR_INTERRUPTS();
    }
}

void ScanParked(core::Scheduler *scheduler) {
    // On the heap, as all that an ERROR passes by: it ends the process.
    auto *found = new core::SnapshotScan(scheduler);
    ScanTable(pg::Tables().parked_store, kParkedForm, found, core::kParkedSegment, VisitParked);
    found->Finish();
    delete found;
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
    elog(DEBUG1, "pg_herald: reading the log");
    LockLog(tables);
    auto *found = new core::SnapshotScan(scheduler);
    ScanTable(tables.parked_store, kParkedForm, found, core::kParkedSegment, VisitParked);
    for (Oid settled : tables.settled) ScanTable(settled, kSettledForm, found, 0, VisitSettled);
    for (int segment = 0; segment < pg::kSegments; segment++)
        ScanTable(tables.log[segment], kLogForm, found, static_cast<uint8>(segment), VisitLog);
    found->Finish();
    delete found;
}

}  // namespace herald
