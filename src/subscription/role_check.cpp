// See role_check.hpp.

#include "subscription/role_check.hpp"

#include "pg/roles.hpp"
#include "settings.hpp"
#include "subscription/handler.hpp"

extern "C" {
#include "catalog/pg_authid.h"
#include "utils/acl.h"
#include "utils/syscache.h"
}

namespace herald {

const char *RoleProblem(Oid role, const char *role_name, int *sqlstate, const char **hint) {
    const char *unused;
    if (hint == nullptr) hint = &unused;
    HeapTuple tuple = OidIsValid(role) ? SearchSysCache1(AUTHOID, ObjectIdGetDatum(role)) : nullptr;
    if (!HeapTupleIsValid(tuple)) {
        *sqlstate = ERRCODE_UNDEFINED_OBJECT;
        *hint = "Name another role by run_as.";
        return psprintf("role \"%s\" does not exist%s", role_name,
                        OidIsValid(pg::RoleByName(role_name)) ? " any more; the one of that name is another" : "");
    }
    auto form = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple));
    bool can_login = form->rolcanlogin;
    ReleaseSysCache(tuple);

    if (pg::kWorkersNeedLogin && !can_login) {
        *sqlstate = ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
        *hint =
            "Before PostgreSQL 17 a role without LOGIN can't run handlers: ALTER ROLE ... LOGIN, without a password.";
        return psprintf("role \"%s\" is not permitted to log in, which a worker needs before PostgreSQL 17", role_name);
    }
    if (!pg::HasDatabasePrivilege(MyDatabaseId, role, ACL_CONNECT)) {
        *sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
        *hint = "Grant it CONNECT on the database.";
        return psprintf("role \"%s\" may not connect to this database", role_name);
    }
    if (!settings::superuser_handlers && superuser_arg(role)) {
        *sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
        *hint = "Name another role by run_as, or turn on herald.superuser_handlers.";
        return psprintf("role \"%s\" is a superuser, and herald.superuser_handlers is off", role_name);
    }
    return nullptr;
}

const char *OwnerProblem(const Subscription &subscription, int *sqlstate) {
    // A worker's copy of the subscription may be older than the end of its owner.
    if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(subscription.owner_role))) {
        *sqlstate = ERRCODE_UNDEFINED_OBJECT;
        return psprintf("the subscription's owner \"%s\" was dropped", subscription.owner);
    }
    if (pg::CanBecome(subscription.owner_role, subscription.role)) return nullptr;
    *sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
    return psprintf("the subscription's owner \"%s\" is no longer a member of role \"%s\"", subscription.owner,
                    subscription.run_as);
}

const char *HandlerProblem(const Subscription &subscription, Oid *function, int *sqlstate) {
    HandlerKind kind;
    *function = ResolveHandler(subscription.handler, &kind);
    if (!OidIsValid(*function)) {
        *sqlstate = ERRCODE_UNDEFINED_FUNCTION;
        return psprintf("handler %s does not exist", subscription.handler);
    }
    *sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
    // status() also tells of subscriptions whose role is gone.
    if (!OidIsValid(subscription.role)) return nullptr;
    const Oid owner = OwnerOfFunction(*function);
    if (owner != subscription.handler_owner_role && !pg::CanBecome(owner, subscription.role))
        return psprintf("handler %s belongs to role \"%s\" now, not to %s%s%s, whose function was meant",
                        subscription.handler, pg::RoleNameNow(owner, "unknown"),
                        subscription.handler_owner == nullptr ? "" : "\"",
                        subscription.handler_owner == nullptr ? "an owner that is known" : subscription.handler_owner,
                        subscription.handler_owner == nullptr ? "" : "\"");
    if (!MayExecuteHandler(*function, subscription.role))
        return psprintf("role \"%s\" may not execute handler %s", subscription.run_as, subscription.handler);
    return nullptr;
}

}  // namespace herald
