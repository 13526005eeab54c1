// Granting and revoking privileges on channels.

#include "channel/channel_grants.hpp"

#include "channel/channel_admin.hpp"
#include "pg/as_owner.hpp"
#include "pg/roles.hpp"
#include "pg/spi.hpp"

namespace herald {

namespace {

constexpr ChannelPrivilege kEach[] = {kPrivilegePublish, kPrivilegeSubscribe, kPrivilegeRead};

// The declared channel, owned by the caller, kept from being dropped until the end of the transaction.
int32 HoldOwnedChannel(const char *name) {
    Channel channel{};
    const uint64 rows = pg::AsOwner([&] {
        const uint64 found = pg::SpiRun(
            "SELECT id, owner, owner_role FROM herald_internal.channel_store WHERE channel = $1 FOR KEY SHARE",
            std::array{pg::Text(name)});
        if (found > 0) {
            pg::CopyString(channel.name, name, sizeof(channel.name));
            channel.id = pg::SpiInt4(0, 1);
            char *owner = pg::SpiText(0, 2);
            channel.owner = pg::StoredRole(owner, pg::SpiText(0, 3));
        }
        return found;
    });
    if (rows == 0) ReportUndeclared(name);
    RequireChannelOwner(channel);
    return channel.id;
}

bool IsPublic(const char *grantee) { return std::strcmp(grantee, "public") == 0; }

}  // namespace

void AddGrant(int32 channel_id, const char *grantee, Oid role, uint8 privileges) {
    const char *identity = IsPublic(grantee) ? "" : pg::RoleIdentity(role);
    pg::AsOwner([&] {
        for (ChannelPrivilege privilege : kEach) {
            if ((privileges & privilege) == 0) continue;
            pg::SpiRun(
                "INSERT INTO herald_internal.channel_grant_store (channel_id, grantee, privilege, grantee_role) "
                "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                std::array{pg::Int4(channel_id), pg::Text(grantee), pg::Text(NameOfPrivilege(privilege)),
                           pg::Text(identity)});
        }
    });
}

void GrantChannel(const char *name, const char *grantee, uint8 privileges) {
    int32 id = HoldOwnedChannel(name);
    const Oid role = pg::RoleByName(grantee);
    if (!IsPublic(grantee) && !OidIsValid(role))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role \"%s\" does not exist", grantee),
                        errhint("\"public\" grants to every role.")));
    AddGrant(id, grantee, role, privileges);
    NoteChannelChange();
}

void RevokeChannel(const char *name, const char *grantee, uint8 privileges) {
    int32 id = HoldOwnedChannel(name);
    // What a dropped role was granted must be revocable. And what stands there under the name of a role that was
    // renamed is that role's, not that of the one which bears the name now.
    const char *identity = pg::RoleIdentity(pg::RoleByName(grantee));
    const char *here = pg::OwnIdentities();
    pg::AsOwner([&] {
        for (ChannelPrivilege privilege : kEach) {
            if ((privileges & privilege) == 0) continue;
            pg::SpiRun(
                "DELETE FROM herald_internal.channel_grant_store "
                "WHERE channel_id = $1 AND privilege = $3 AND (grantee_role = $4 OR grantee = $2 AND ("
                "NOT pg_catalog.starts_with(grantee_role, $5) OR $4 IS NULL AND NOT EXISTS ("
                "SELECT FROM pg_catalog.pg_roles AS a WHERE grantee_role = $5 || a.oid::pg_catalog.text)))",
                std::array{pg::Int4(id), pg::Text(grantee), pg::Text(NameOfPrivilege(privilege)), pg::Text(identity),
                           pg::Text(here)});
        }
    });
    NoteChannelChange();
}

}  // namespace herald
