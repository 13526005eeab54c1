// Roles by name, and what one role may do as another.
//
// Tables keep a role as two texts: its name, and the identity of who bore it, "system identifier/oid". A dump
// needs the name; but names are given away and taken anew, so on the server of the identity the oid decides:
// a renamed role is the same one, a new role of an old name is not. Every use must bear a role that was dropped.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

// InvalidOid where there is no such role.
inline Oid RoleByName(const char *name) {
    // Longer names can't exist; the catalog look-up would cut them and find another role.
    if (std::strlen(name) >= NAMEDATALEN) return InvalidOid;
    return get_role_oid(name, true);
}

// To be stored beside the role's name, in the current memory context; NULL for InvalidOid.
char *RoleIdentity(Oid role);

// The beginning of the identities of this server, up to and with the slash; in the current memory context.
char *OwnIdentities();

// The role that is stored by the two. InvalidOid where it is gone. `identity` NULL, or of another server (a
// restored dump): by the name, where that is not NULL.
Oid StoredRole(const char *name, const char *identity);

// As it is called now, in the current memory context; `stored` where it is gone.
const char *RoleNameNow(Oid role, const char *stored);

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
