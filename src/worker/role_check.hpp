// Whether a role can run workers at all, checked by whoever is about to start or hold them.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// Why the role can't run workers in this database, as a sentence part in the current memory context; NULL:
// it can. `sqlstate` gets the matching code. In a transaction.
const char *RoleProblem(Oid role, const char *role_name, int *sqlstate);

// The same for the owner: who may no longer become the role must not have its code run as it. An owner
// that was dropped can't change anything any more, so it is no problem.
const char *OwnerProblem(const char *owner, Oid role, const char *role_name, int *sqlstate);

}  // namespace herald
