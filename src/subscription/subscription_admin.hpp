// Making, changing and removing subscriptions. All of them check the caller's rights, write as the
// extension's owner, and tell the dispatcher at commit.

#pragma once

#include "pg/pg.hpp"
#include "subscription/subscription_options.hpp"

namespace herald {

// Makes a subscription owned by the caller. 42710 where the name is taken, unless `if_not_exists`,
// which gives a notice; the other errors are those of the options, the channel and the handler.
void Subscribe(const char *name, const SubscriptionOptions &options, bool if_not_exists);

// Changes what the options name. A new handler or role takes a held subscription off hold.
void AlterSubscription(const char *name, const SubscriptionOptions &options);

// Removes the subscription with its tasks and dead letters; 2BP01 where it has any, unless `force`.
void Unsubscribe(const char *name, bool force);

}  // namespace herald
