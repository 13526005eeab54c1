// Keeping what tables say of roles (see pg/roles.hpp) up to date with the roles themselves.
//
// On the server where a role was noted its oid decides, so nothing here is needed to know who may what. It is
// needed for the next dump, which is restored by names.

#pragma once

namespace herald {

// Writes the names that roles bear now, and notes the roles of names that a restore brought; those of subscriptions
// only for herald.activate(), as until then they don't run. Privileges of roles that were dropped go. Waits for
// nobody: a row that somebody has locked is left for the next time. In a transaction.
void RefreshRoleNames();

// The roles of restored subscriptions and of their failures. Waits for whoever changes them.
void AdoptSubscriptionRoles();

}  // namespace herald
