// See role_check.hpp.

#include "worker/role_check.hpp"

#include "pg/roles.hpp"
#include "settings.hpp"

extern "C" {
#include "catalog/pg_authid.h"
#include "utils/acl.h"
#include "utils/syscache.h"
}

namespace herald {

const char *RoleProblem(Oid role, const char *role_name, int *sqlstate) {
    HeapTuple tuple = OidIsValid(role) ? SearchSysCache1(AUTHOID, ObjectIdGetDatum(role)) : nullptr;
    if (!HeapTupleIsValid(tuple)) {
        *sqlstate = ERRCODE_UNDEFINED_OBJECT;
        return psprintf("role \"%s\" does not exist", role_name);
    }
    auto form = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple));
    bool can_login = form->rolcanlogin;
    ReleaseSysCache(tuple);

    if (pg::kWorkersNeedLogin && !can_login) {
        *sqlstate = ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
        return psprintf("role \"%s\" is not permitted to log in, which a worker needs before "
                        "PostgreSQL 17",
                        role_name);
    }
    if (!pg::HasDatabasePrivilege(MyDatabaseId, role, ACL_CONNECT)) {
        *sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
        return psprintf("role \"%s\" may not connect to this database", role_name);
    }
    if (!settings::superuser_handlers && superuser_arg(role)) {
        *sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
        return psprintf("role \"%s\" is a superuser, and herald.superuser_handlers is off",
                        role_name);
    }
    return nullptr;
}

const char *OwnerProblem(const char *owner, Oid role, const char *role_name, int *sqlstate) {
    Oid owner_role = pg::RoleByName(owner);
    if (!OidIsValid(owner_role) || pg::CanBecome(owner_role, role)) return nullptr;
    *sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
    return psprintf("the subscription's owner \"%s\" is no longer a member of role \"%s\"", owner,
                    role_name);
}

}  // namespace herald
