// See roles.hpp.

#include "pg/roles.hpp"

extern "C" {
#include "access/xlog.h"
#include "utils/syscache.h"
}

namespace herald::pg {

namespace {

// The oid in an identity of this server; InvalidOid in one of another, or in what is none.
Oid OwnOid(const char *identity) {
    char *end;
    errno = 0;
    const unsigned long long server = strtoull(identity, &end, 10);
    if (errno != 0 || *end != '/' || server != GetSystemIdentifier()) return InvalidOid;
    const unsigned long oid = strtoul(end + 1, &end, 10);
    return errno == 0 && *end == '\0' ? static_cast<Oid>(oid) : InvalidOid;
}

}  // namespace

char *OwnIdentities() { return psprintf(UINT64_FORMAT "/", GetSystemIdentifier()); }

char *RoleIdentity(Oid role) {
    return OidIsValid(role) ? psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), role) : nullptr;
}

Oid StoredRole(const char *name, const char *identity) {
    const Oid role = identity == nullptr ? InvalidOid : OwnOid(identity);
    if (!OidIsValid(role)) return name == nullptr ? InvalidOid : RoleByName(name);
    return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)) ? role : InvalidOid;
}

const char *RoleNameNow(Oid role, const char *stored) {
    const char *name = OidIsValid(role) ? GetUserNameFromId(role, true) : nullptr;
    return name == nullptr ? stored : name;
}

}  // namespace herald::pg
