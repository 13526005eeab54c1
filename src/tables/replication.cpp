// See replication.hpp. pg_class.relrewrite is how the server marks the new heap of a table that is just being
// rewritten, so that its rows are not decoded as changes; nothing else looks at it. Other ways are for single inserts
// only (HEAP_INSERT_NO_LOGICAL), or leave UPDATE and DELETE.

#include "tables/replication.hpp"

#include "pg/compat.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "access/table.h"
#include "commands/tablecmds.h"
#include "replication/logicalworker.h"
#include "utils/rel.h"
}

namespace herald {

void KeepFromDecoding() {
    pg::SpiBegin();
    // With their TOAST tables. A row that somebody else is changing is left for next time.
    (void)pg::SpiRun(
        "UPDATE pg_catalog.pg_class AS c SET relrewrite = c.oid WHERE c.oid IN ("
        "SELECT m.oid FROM pg_catalog.pg_class AS m WHERE m.relrewrite = 0 AND m.oid IN ("
        "SELECT pg_catalog.unnest(ARRAY[t.oid, NULLIF(t.reltoastrelid, 0)]) FROM pg_catalog.pg_class AS t"
        " WHERE t.relkind = 'r' AND t.relnamespace ="
        " (SELECT n.oid FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'herald_internal'))"
        " FOR UPDATE SKIP LOCKED)");
    pg::SpiEnd();
}

void EmptyTables(const Oid *tables, int count) {
    List *relations = NIL;
    List *oids = NIL;
    ListCell *cell;
    for (int i = 0; i < count; i++) {
        relations = lappend(relations, table_open(tables[i], AccessExclusiveLock));
        oids = lappend_oid(oids, tables[i]);
    }
    pg::TruncateWithoutDecoding(relations, oids);
    foreach (cell, relations) table_close(static_cast<Relation>(lfirst(cell)), NoLock);
    list_free(relations);
    list_free(oids);
}

bool IsReplicatedChange() { return (IsLogicalWorker() || pg::HasReplicationOrigin()) && !pg::InOwnStatement(); }

}  // namespace herald
