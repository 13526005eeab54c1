// Whose a name is that nobody has declared. Who declares a channel may shut out all others; so a name that others
// publish to is not everybody's to take.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// True where roles whose rights the caller does not have published to the undeclared channel within a day, as far as the
// statistics know, and for "locks", on which herald.try_lock() announces for everybody. Never for the owner of the
// database.
bool IsUsedByOthers(const char *name);

// 42501 where it is.
void RequireUnusedByOthers(const char *name);

Oid OwnerOfDatabase();

}  // namespace herald
