// What the functions that show things have in common.

#pragma once

#include "pg/pg.hpp"
#include "subscription/subscription.hpp"

namespace herald {

// Roles that may see the whole server's statistics.
bool MaySeeEverything();

// True where the caller may see the subscription: through its owner, the role it runs as, or the owner
// of its channel; or as one who may see everything.
bool MaySeeSubscription(const Subscription &subscription);

// Its state as views show it: also "inert".
const char *ShownState(const Subscription &subscription);

}  // namespace herald
