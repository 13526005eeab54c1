// The tables of the trail as the writer needs them: a segment with its indexes, and the columns of both kinds.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "executor/tuptable.h"
#include "utils/relcache.h"
}

namespace herald {

enum AuditColumn {
    kAuditId = 1,
    kAuditContextId,
    kAuditChangedAt,
    kAuditRecordHash,
    kAuditOldRecordHash,
    kAuditTargetId,
    kAuditSequence,
    kAuditOperation,
    kAuditSchemaName,
    kAuditTableName,
    kAuditRecordId,
    kAuditOldRecordId,
    kAuditOld,
    kAuditNew,
    kAuditChanged,
    kAuditColumns = kAuditChanged,
};

enum AuditContextColumn {
    kContextId = 1,
    kContextTransactionId,
    kContextSessionUser,
    kContextCurrentUser,
    kContextApplicationName,
    kContextClientAddress,
    kContextClientPort,
    kContextStatement,
    kContextContext,
    kContextColumns = kContextContext,
};

// Indexes that are not ours: of a database administrator, or made by a REINDEX CONCURRENTLY that is under way.
struct OtherIndexes {
    int count;
    Oid index[8];
};

struct AuditSegment {
    Oid table;
    Oid record_index;      // of record_hash
    Oid old_record_index;  // of old_record_hash, where it is not NULL
    Oid time_index;        // BRIN
    OtherIndexes others;
    Oid context;
    Oid context_index;  // of its id
    OtherIndexes context_others;
};

// Looks into the catalogs where it is not known yet. An ERROR where a table has very many other indexes.
const AuditSegment &SegmentTables(int segment);

// The next id of a row, or of a context; gaps are usual, because each session takes a thousand at once.
int64 NextAuditId();
int64 NextAuditContextId();

// Adds an entry to one index for a row that has just been written.
void InsertIndexEntry(Relation table, Oid index, Datum value, ItemPointer row);

// Adds the entries of indexes that are not ours, whatever they are of. The slots know where their rows are.
void InsertOtherEntries(Relation table, const OtherIndexes &indexes, TupleTableSlot **slots, int count);
void InsertOtherEntries(Relation table, const OtherIndexes &indexes, HeapTuple row);

}  // namespace herald
