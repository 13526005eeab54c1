// Granting and revoking privileges on channels.

#include "channel/channel_grants.hpp"

#include "channel/channel_admin.hpp"
#include "pg/identity.hpp"
#include "pg/roles.hpp"
#include "pg/spi.hpp"

namespace herald {

namespace {

constexpr ChannelPrivilege kEach[] = {kPrivilegePublish, kPrivilegeSubscribe, kPrivilegeRead};

// The declared channel, owned by the caller, kept from being dropped until the end of the transaction.
int32 HoldOwnedChannel(const char *name) {
    pg::Identity caller = pg::BecomeOwner();
    pg::SpiBegin();
    uint64 rows = pg::SpiRun(
        "SELECT id, owner FROM herald.channel_store WHERE channel = $1 FOR KEY SHARE",
        std::array{pg::Text(name)});
    Channel channel{};
    if (rows > 0) {
        pg::CopyString(channel.name, name, sizeof(channel.name));
        channel.id = pg::SpiInt4(0, 1);
        char *owner = pg::SpiText(0, 2);
        channel.owner = pg::RoleByName(owner);
    }
    pg::SpiEnd();
    pg::BecomeCaller(caller);
    if (rows == 0) ReportUndeclared(name);
    RequireChannelOwner(channel);
    return channel.id;
}

bool IsPublic(const char *grantee) { return std::strcmp(grantee, "public") == 0; }

}  // namespace

void AddGrant(int32 channel_id, const char *grantee, uint8 privileges) {
    pg::Identity caller = pg::BecomeOwner();
    pg::SpiBegin();
    for (ChannelPrivilege privilege : kEach) {
        if ((privileges & privilege) == 0) continue;
        pg::SpiRun(
            "INSERT INTO herald.channel_grant_store (channel_id, grantee, privilege) "
            "VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            std::array{pg::Int4(channel_id), pg::Text(grantee), pg::Text(NameOfPrivilege(privilege))});
    }
    pg::SpiEnd();
    pg::BecomeCaller(caller);
}

void GrantChannel(const char *name, const char *grantee, uint8 privileges) {
    int32 id = HoldOwnedChannel(name);
    if (!IsPublic(grantee) && !OidIsValid(pg::RoleByName(grantee)))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("role \"%s\" does not exist", grantee),
                        errhint("\"public\" grants to every role.")));
    AddGrant(id, grantee, privileges);
    NoteChannelChange();
}

void RevokeChannel(const char *name, const char *grantee, uint8 privileges) {
    // No look at the role: what a dropped role was granted must be revocable.
    int32 id = HoldOwnedChannel(name);
    pg::Identity caller = pg::BecomeOwner();
    pg::SpiBegin();
    for (ChannelPrivilege privilege : kEach) {
        if ((privileges & privilege) == 0) continue;
        pg::SpiRun(
            "DELETE FROM herald.channel_grant_store "
            "WHERE channel_id = $1 AND grantee = $2 AND privilege = $3",
            std::array{pg::Int4(id), pg::Text(grantee), pg::Text(NameOfPrivilege(privilege))});
    }
    pg::SpiEnd();
    pg::BecomeCaller(caller);
    NoteChannelChange();
}

}  // namespace herald
