// See id_store.hpp. Who changes a row holds the lock on its page, which is also held while a range in shared memory is
// renewed. So ranges follow one another as in the row, and nobody is handed an id before WAL has a record that covers it.

#include "tables/id_store.hpp"

#include "registry/database.hpp"
#include "pg/extension.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/generic_xlog.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

static_assert(lengthof(kIdCounterNames) == kIdCounters);

// Ids that one WAL record covers beyond those it was written for.
constexpr int64 kIdsAhead = 32;

// As the script makes the table. `used` comes first, so that it has the same place in each row.
struct CounterRow {
    int64 used;  // ids up to here may be in use
    // text: the counter
};

// Calls visit(row) for each row of a counter in a page that is locked, or in a copy of it. There is one; where an
// administrator has changed it, also those that are left.
template <typename Visit>
void ForEachRow(Page page, const char *counter, Visit &&visit) {
    for (OffsetNumber i = FirstOffsetNumber; i <= PageGetMaxOffsetNumber(page); i++) {
        ItemId item = PageGetItemId(page, i);
        if (!ItemIdIsNormal(item)) continue;
        auto *tuple = reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item));
        // Columns that a later version has added may be NULL.
        const bool has_nulls = (tuple->t_infomask & HEAP_HASNULL) != 0;
        if (HeapTupleHeaderGetNatts(tuple) < 2 || (has_nulls && (tuple->t_bits[0] & 3) != 3)) continue;
        char *data = reinterpret_cast<char *>(tuple) + tuple->t_hoff;
        const Size length = ItemIdGetLength(item) - tuple->t_hoff;
        const char *name = data + sizeof(CounterRow);
        if (length <= sizeof(CounterRow) || !VARATT_IS_SHORT(name) || VARATT_IS_EXTERNAL(name) ||
            length < sizeof(CounterRow) + VARSIZE_SHORT(name))
            continue;
        const Size name_length = VARSIZE_SHORT(name) - VARHDRSZ_SHORT;
        if (name_length == strlen(counter) && memcmp(VARDATA_SHORT(name), counter, name_length) == 0)
            visit(reinterpret_cast<CounterRow *>(data));
    }
}

// The page that has the rows, locked. The lock on the table stays until the transaction ends.
struct OpenRow {
    Relation table;
    Buffer buffer;
    const char *counter;
    int64 used;
};

OpenRow LockRow(Relation table, IdCounter counter) {
    OpenRow open = {table, InvalidBuffer, kIdCounterNames[static_cast<int>(counter)], 0};
    if (RelationGetNumberOfBlocks(table) > 0) {
        open.buffer = ReadBuffer(table, 0);
        LockBuffer(open.buffer, BUFFER_LOCK_EXCLUSIVE);
        bool found = false;
        ForEachRow(BufferGetPage(open.buffer), open.counter, [&](const CounterRow *row) {
            open.used = Max(open.used, row->used);
            found = true;
        });
        if (found) return open;
    }
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("table \"herald_internal.id_store\" has lost its row for \"%s\"", open.counter),
                    errhint("Insert the row again, with an id in \"used\" above all that are in use.")));
    pg_unreachable();
}

void WriteRow(const OpenRow &open, int64 used) {
    GenericXLogState *state = GenericXLogStart(open.table);
    ForEachRow(GenericXLogRegisterBuffer(state, open.buffer, 0), open.counter,
               [used](CounterRow *row) { row->used = used; });
    (void)GenericXLogFinish(state);
}

// Takes ids from the range in shared memory; false where it has not enough.
bool TakeFrom(DatabaseShared *database, int number, Oid table, int64 count, int64 *first) {
    if (database == nullptr) return false;
    IdRange *range = &database->ids.ranges[number];
    SpinLockAcquire(&database->ids.lock);
    const bool enough = range->table == table && range->last - range->next >= count - 1;
    if (enough) {
        *first = range->next;
        range->next += count;
    }
    SpinLockRelease(&database->ids.lock);
    return enough;
}

// NULL where the server has more databases than there are entries: then each id is drawn from the row.
DatabaseShared *OwnDatabase() {
    static DatabaseShared *own = nullptr;
    if (own == nullptr || own->database != MyDatabaseId) own = FindOrCreateDatabase(MyDatabaseId);
    return own;
}

// Takes the rest of the range, if it ends at `used` as the row does; with the page locked. Nobody takes from it any more.
int64 TakeRest(DatabaseShared *database, int number, Oid table, int64 used) {
    int64 first = used + 1;
    if (database == nullptr) return first;
    IdRange *range = &database->ids.ranges[number];
    SpinLockAcquire(&database->ids.lock);
    if (range->table == table && range->last == used) first = range->next;
    *range = {table, used + 1, used};
    SpinLockRelease(&database->ids.lock);
    return first;
}

void SetRange(DatabaseShared *database, int number, const IdRange &range) {
    if (database == nullptr) return;
    SpinLockAcquire(&database->ids.lock);
    database->ids.ranges[number] = range;
    SpinLockRelease(&database->ids.lock);
}

}  // namespace

IdCounter FindIdCounter(const char *name) {
    for (int i = 0; i < kIdCounters; i++)
        if (strcmp(kIdCounterNames[i], name) == 0) return static_cast<IdCounter>(i);
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("pg_herald has no ids named \"%s\"", name)));
    pg_unreachable();
}

int64 DrawIds(IdCounter counter, int64 count) {
    const int number = static_cast<int>(counter);
    const Oid oid = pg::Tables().id_store;
    DatabaseShared *database = OwnDatabase();
    Relation table = pg::OpenTable(oid, RowExclusiveLock, kIdForm);
    int64 first;
    // A commit without an xid would not wait for the record to be flushed.
    (void)GetTopTransactionId();
    if (!TakeFrom(database, number, oid, count, &first)) {
        OpenRow open = LockRow(table, counter);
        // Somebody else may have renewed the range meanwhile.
        if (!TakeFrom(database, number, oid, count, &first)) {
            if (open.used > PG_INT64_MAX - count - kIdsAhead)
                ereport(ERROR, (errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
                                errmsg("pg_herald has no more ids of \"%s\"", open.counter)));
            first = TakeRest(database, number, oid, open.used);
            const int64 next = first + count;
            WriteRow(open, next - 1 + kIdsAhead);
            SetRange(database, number, {oid, next, next - 1 + kIdsAhead});
        }
        UnlockReleaseBuffer(open.buffer);
    }
    table_close(table, NoLock);
    return first;
}

void RaiseIds(IdCounter counter, int64 used) {
    if (used < 0 || used == PG_INT64_MAX)
        ereport(ERROR,
                (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("ids end at " INT64_FORMAT, PG_INT64_MAX - 1)));
    const int number = static_cast<int>(counter);
    const Oid oid = pg::Tables().id_store;
    Relation table = pg::OpenTable(oid, RowExclusiveLock, kIdForm);
    (void)GetTopTransactionId();
    OpenRow open = LockRow(table, counter);
    // Ids of the range that are left are above it, or are given up with those below.
    (void)TakeRest(OwnDatabase(), number, oid, Max(used, open.used));
    if (used > open.used) WriteRow(open, used);
    UnlockReleaseBuffer(open.buffer);
    table_close(table, NoLock);
}

}  // namespace herald
