// See settled.hpp. Written without SPI: it is on the path of every task. The tables have no default and no
// constraint but NOT NULL, which OpenTable() sees to, so that a heap insert is all there is to do.

#include "log/settled.hpp"

#include "pg/extension.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/rel.h"
}

namespace herald {

void WriteSettled(int segment, int32 subscription_id, const int64 *message_ids, int count) {
    Datum *items = static_cast<Datum *>(palloc(sizeof(Datum) * count));
    for (int i = 0; i < count; i++) items[i] = Int64GetDatum(message_ids[i]);
    ArrayType *array = construct_array(items, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);

    Relation relation = pg::OpenTable(pg::Tables().settled[segment], RowExclusiveLock, kSettledForm);
    Datum values[2] = {Int32GetDatum(subscription_id), PointerGetDatum(array)};
    bool nulls[2] = {false, false};
    HeapTuple tuple = pg::FormRow(relation, values, nulls, lengthof(values));
    pg::InsertRow(relation, tuple);
    heap_freetuple(tuple);
    // The lock stays until the end of the transaction, as for any write.
    table_close(relation, NoLock);
    pfree(array);
    pfree(items);
}

}  // namespace herald
