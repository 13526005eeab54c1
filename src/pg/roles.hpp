// Roles by name, and what one role may do as another. Tables store role names as text, so every use
// must bear a role that was dropped.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

// InvalidOid where there is no such role.
inline Oid RoleByName(const char *name) {
    // Longer names can't exist; the catalog look-up would cut them and find another role.
    if (std::strlen(name) >= NAMEDATALEN) return InvalidOid;
    return get_role_oid(name, true);
}

// True where `member` has the rights of `role`: what "the owner may" means everywhere.
inline bool HasRightsOf(Oid member, Oid role) {
    return OidIsValid(role) ? has_privs_of_role(member, role) : superuser_arg(member);
}

// True where `member` may become `role` by SET ROLE: what running code as it amounts to.
inline bool CanBecome(Oid member, Oid role) {
#if PG_VERSION_NUM >= 160000
    return member_can_set_role(member, role);
#else
    return is_member_of_role(member, role);
#endif
}

}  // namespace herald::pg
