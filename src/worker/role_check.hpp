// Whether a role can run workers at all, checked by whoever is about to start or hold them.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// Why the role can't run workers in this database, as a sentence part in the current memory context; NULL:
// it can. `sqlstate` gets the matching code. In a transaction.
const char *RoleProblem(Oid role, const char *role_name, int *sqlstate);

}  // namespace herald
