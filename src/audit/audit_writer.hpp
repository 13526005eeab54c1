// Writing changes to the trail: straight into the segment's heap and indexes, many rows at once where a
// statement has changed many. No privilege is asked for and no identity changed: nobody else can write there.
//
//     AuditWriter writer = BeginAudit(target, relation, rows_expected);
//     for (...) WriteAudit(&writer, row);
//     EndAudit(&writer);
//
// What BeginAudit is called with as current context, must live until EndAudit. An ERROR in between needs no
// cleaning up.

#pragma once

#include "audit/trail_tables.hpp"
#include "audit/audit_target.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "executor/tuptable.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
}

namespace herald {

// A row for the trail. Pointers are NULL for a column that is NULL, and are not used after WriteAudit.
struct AuditRow {
    AuditOperation operation;
    const Jsonb *record_id;
    const Jsonb *old_record_id;  // where the key has changed
    const Jsonb *old_row;
    const Jsonb *new_row;
    const void *changed;  // text[]
};

inline constexpr int kAuditRowsAtOnce = 256;

struct AuditWriter {
    int32 target_id;
    Relation relation;      // whose rows they are
    MemoryContext context;  // for what lasts until EndAudit
    bool many;              // more than one row is expected

    // From the first row on:
    TimestampTz changed_at;
    Datum schema_name;
    Datum table_name;
    Relation table;  // the segment
    Oid record_index;
    Oid old_record_index;
    Oid time_index;
    OtherIndexes others;
    int64 context_id;

    MemoryContext rows;  // memory of a batch
    int count;
    Size bytes;
    TupleTableSlot **slots;
    int slot_count;
    int64 *hashes;  // record_hash and old_record_hash of each
};

AuditWriter BeginAudit(const AuditTarget &target, Relation relation, int64 rows_expected);
void WriteAudit(AuditWriter *writer, const AuditRow &row);
void EndAudit(AuditWriter *writer);

}  // namespace herald
