// What the current transaction has changed in the tables of feeds, until it commits: for each feed the rows by
// their key, each with what became of it since the transaction began. A rollback to a savepoint takes back what
// was noted since.
//
// A feed's notes are a chain of layers. A new layer begins where something makes what was noted before worthless
// or puts it in order: a TRUNCATE, or too many rows. Within a layer rows have states, and a stack of those that
// savepoints may bring back.

#pragma once

#include "feed/feed.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
#include "utils/relcache.h"
}

namespace herald {

struct RowState {
    RowChange change;
    Jsonb *old;  // as far as the message needs it; NULL: not kept
    Jsonb *now;
    RowChange last;     // of the changes it is made of, the one that was noted last
    CommandId command;  // of the statement that made that one
    CommandId first;    // and the one that the row was first changed by
};

struct NotedRow {
    NotedRow *next;  // in its bucket
    uint32 hash;
    Jsonb *key;  // NULL: the row has none
    uint64 order;
    SubTransactionId subtransaction;  // that made the state
    RowState state;
};

struct SavedState {
    NotedRow *row;
    RowState state;
    SubTransactionId before;  // that had made it
    SubTransactionId after;   // that has replaced it
};

struct RowCounts {
    SubTransactionId subtransaction;
    uint64 inserted;
    uint64 updated;
    uint64 deleted;
};

struct NotedLayer {
    NotedLayer *previous;
    SubTransactionId subtransaction;  // that began it
    bool replaces;                    // what came before is not to be published
    // What it begins with: a TRUNCATE of `partition` or of the whole table, or that `partition`, which has rows, has come
    // into the table or left it. kNoChange: nothing.
    uint8 event;  // for feeds with this operation
    const char *event_name;
    bool bulk;              // rows are only counted
    const char *partition;  // schema.name at that time; NULL: the whole table
    uint64 order;
    MemoryContext context;
    NotedRow **rows;  // in the order of their first change
    uint32 row_count;
    uint32 row_capacity;
    NotedRow **buckets;
    uint32 bucket_count;
    SavedState *saved;
    uint32 saved_count;
    uint32 saved_capacity;
    RowCounts *counts;  // one for each level of savepoints that has changed something
    uint32 count_count;
    uint32 count_capacity;
    Size bytes;
};

struct FeedNotes {
    FeedNotes *next;
    const Feed *feed;
    NotedLayer *top;
};

// The notes of the transaction, one for each feed that has some.
FeedNotes *AllNotes();

// Those of a feed, with a layer to note into.
FeedNotes *NotesOf(const Feed *feed);

// Counts rows that were written.
void CountRows(FeedNotes *notes, RowChange change, uint64 rows);
RowCounts TotalCounts(const NotedLayer *layer);

// The row of that key, or NULL.
NotedRow *FindRow(const FeedNotes *notes, const Jsonb *key);

// Notes a row's new state, copied where `state` is in other memory. `row` NULL: a row that was not noted yet,
// with that key (or NULL).
void NoteRow(FeedNotes *notes, NotedRow *row, const Jsonb *key, const RowState &state);

// True if a transaction may keep so many rows more of a feed.
bool HasRoom(const FeedNotes *notes, int64 more_rows);
// From now on rows are only counted.
void BeginBulk(FeedNotes *notes);
// `partition`: what was truncated, if not the whole table; else NULL.
void NoteTruncate(FeedNotes *notes, Relation partition);
// What became of a table with rows that is, or was, below the feed's table.
enum class PartitionChange : uint8 { kAttached, kDetached, kDropped };
void NotePartition(FeedNotes *notes, Oid partition, PartitionChange change);

void ForgetNotes();
// Forgets what the triggers know of relations, at the end of the transaction.
void ForgetFeedTables();

// At the ends of subtransactions.
void KeepNotes(SubTransactionId own, SubTransactionId parent);
void DropNotes(SubTransactionId own);

}  // namespace herald
