// Whether what a subscription names may still be used as it was meant: its role, its owner, its handler. One rule
// for whoever makes, changes, holds or runs it.

#pragma once

#include "pg/pg.hpp"
#include "subscription/subscription.hpp"

namespace herald {

// Why the role can't run workers in this database, as a sentence part in the current memory context; NULL:
// it can. `sqlstate` gets the matching code; `hint`, where it is not NULL, what helps. In a transaction.
const char *RoleProblem(Oid role, const char *role_name, int *sqlstate, const char **hint = nullptr);

// The same of the subscription's owner: who may no longer become the role, or is gone, must not have code run
// as it.
const char *OwnerProblem(const Subscription &subscription, int *sqlstate);

// The same of the handler. The function it names by now is also the one that was meant if it belongs to the same
// owner, or to somebody who may become the role anyway. Else a stranger who takes the name of a schema or function
// that was renamed or dropped would have code run as the role. `function` gets it, or InvalidOid.
const char *HandlerProblem(const Subscription &subscription, Oid *function, int *sqlstate);

}  // namespace herald
