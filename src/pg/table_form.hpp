// Tables of the extension as the library expects them. Code that forms and reads their rows by column number, past
// the executor, opens them by OpenTable(): it compares what is there with what the code knows, once per relcache
// entry, and refuses a table that an administrator or another version of the extension has changed in a way that
// the code can't deal with.
//
// Columns that were added behind the known ones, may be NULL and have no default are left NULL. Indexes are
// maintained, whoever made them. Whatever else the executor would have to do for a row is refused; and what could
// refuse a row, or make another one of it, where the outcome of a task is recorded.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "access/heapam.h"
#include "executor/tuptable.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
}

namespace herald::pg {

struct ColumnForm {
    const char *name;
    Oid type;
    bool not_null;
};

enum class RowsFrom : uint8 {
    kStatements,         // all rows are inserted by SQL, which does what constraints, defaults and rules ask for
    kCertainStatements,  // the same, where a task whose row is refused would be handled again and again
    kDirectInserts,      // rows are put into the heap
    kCertainInserts,     // both
};

struct TableForm {
    const ColumnForm *columns;  // in order
    int count;
    RowsFrom rows_from;
};

// table_open(), and ERROR 55000 with a hint where the table does not have the form.
Relation OpenTable(Oid table, LOCKMODE mode, const TableForm &form);

// Why an open table does not have the form, as a sentence in the current context; NULL: it has it.
const char *FindMisfit(Relation table, const TableForm &form);
[[noreturn]] void ReportMisfit(const char *table, const char *misfit);

// True where FindMisfit has found nothing since the table changed last.
bool KnownToFit(Oid table);

inline constexpr const char *kMisfitHint =
    "Undo what was changed; if library and extension are of different versions, run ALTER EXTENSION pg_herald "
    "UPDATE or restart the server.";

// A row of the first `count` columns; columns behind them are NULL.
HeapTuple FormRow(Relation table, const Datum *values, const bool *nulls, int count);

// Puts a row, or rows in slots of heap tuples, into the heap and enters them in the indexes of the table. Logical
// decoding does not see what is inserted by InsertRow.
void InsertRow(Relation table, HeapTuple row);
void InsertRows(Relation table, TupleTableSlot **slots, int count, BulkInsertState bulk);

// Forgets what is known of a table; InvalidOid: of all. For the relcache callback.
void ForgetTable(Oid table);

}  // namespace herald::pg
