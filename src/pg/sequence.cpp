// See sequence.hpp. The page is changed as nextval_internal() changes it: WAL tells a value some way ahead, so
// that the next ids need no record of their own; after a crash the sequence goes on from there.

#include "pg/sequence.hpp"

extern "C" {
#include "access/generic_xlog.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
}

namespace herald::pg {

namespace {

// Ids that one WAL record covers beyond those it was written for.
constexpr int64 kIdsAhead = 32;

// The sequence's row, in a page that is locked, or in a copy of it.
Form_pg_sequence_data RowOf(Page page) {
    ItemId item = PageGetItemId(page, FirstOffsetNumber);
    HeapTupleHeader row = reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item));
    return reinterpret_cast<Form_pg_sequence_data>(reinterpret_cast<char *>(row) + row->t_hoff);
}

// Writes the row as it is to be found after a crash, which is `last` as the id drawn last.
void LogAhead(Relation relation, Buffer buffer, int64 last) {
    GenericXLogState *state = GenericXLogStart(relation);
    Form_pg_sequence_data row = RowOf(GenericXLogRegisterBuffer(state, buffer, 0));
    row->last_value = last;
    row->is_called = true;
    row->log_cnt = 0;
    (void)GenericXLogFinish(state);
}

}  // namespace

int64 DrawIds(Oid sequence, int64 count) {
    // The lock stays until the transaction ends: ids of a transaction come from one file of the sequence.
    Relation relation = relation_open(sequence, RowExclusiveLock);
    if (relation->rd_rel->relkind != RELKIND_SEQUENCE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is not a sequence", RelationGetRelationName(relation))));
    // A commit without an xid would not wait for the record to be flushed.
    (void)GetTopTransactionId();

    Buffer buffer = ReadBuffer(relation, 0);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    Page page = BufferGetPage(buffer);
    Form_pg_sequence_data row = RowOf(page);
    if (row->last_value > PG_INT64_MAX - count - kIdsAhead)
        ereport(ERROR, (errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
                        errmsg("sequence \"%s\" has no more ids", RelationGetRelationName(relation))));
    const int64 first = row->is_called ? row->last_value + 1 : row->last_value;
    const int64 last = first + count - 1;
    int64 logged = row->is_called ? row->last_value + row->log_cnt : row->last_value - 1;
    // Recovery starts at the last checkpoint, and must find a record after it.
    if (logged < last || PageGetLSN(page) <= GetRedoRecPtr()) {
        logged = last + kIdsAhead;
        LogAhead(relation, buffer, logged);
    }
    // Under the same lock, so that nobody has seen, and no checkpoint has written, what went into the record.
    START_CRIT_SECTION();
    MarkBufferDirty(buffer);
    row->last_value = last;
    row->is_called = true;
    row->log_cnt = logged - last;
    END_CRIT_SECTION();
    UnlockReleaseBuffer(buffer);
    relation_close(relation, NoLock);
    return first;
}

}  // namespace herald::pg
