// The tables of the extension and logical replication. What is in them belongs to this database: the log, what became
// of tasks, who subscribes. Rows of another database with the extension would have the same ids and mean something
// else. So no row leaves by logical decoding, whatever is published, and none is written that another server sends.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// Marks tables so that logical decoding leaves them out, where they aren't marked: after pg_upgrade, which makes
// tables without the script. Needs a transaction, of a superuser. Waits for nobody.
void KeepFromDecoding();

// Empties tables under locks that the caller has (AccessExclusiveLock), without telling logical decoding.
void EmptyTables(const Oid *tables, int count);

// True where the running change of a row or table comes from another server, and is not one that the library makes
// while such a change is applied.
bool IsReplicatedChange();

}  // namespace herald
