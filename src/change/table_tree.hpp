// What is above and below a table: partitioned tables with their partitions, and parents with their children.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// The relation and all that is below it, each locked, the relation first, as whoever writes to them does; in the current
// context. 42P01 where the relation was dropped meanwhile. NoLock: as the catalogs say it at this moment, any of them may
// be gone at the next.
Oid *LockTree(Oid root, int lock_mode, int *count);

// Schema and name of a relation, which need not be locked, in the current context. False, and both as they were: it is gone.
bool ReadNames(Oid relation, const char **schema, const char **name);

// Its direct parents (partitioned table, or by INHERITS), in the current context.
Oid *ParentsOf(Oid relation, int *count);

// The name of one of them, in the current context; NULL where there is none. Statements that name a table above
// do not fire the statement triggers of those below, so these see less than all changes.
const char *ParentName(Oid relation);

// True where the ancestor is a parent of the relation, or a parent's parent, and so on.
bool IsAbove(Oid ancestor, Oid relation);

}  // namespace herald
