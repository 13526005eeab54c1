// SQL entry points of channels and their privileges.

#include "channel/channel_admin.hpp"
#include "pg/arguments.hpp"
#include "pg/guard.hpp"
#include "pg/roles.hpp"

using namespace herald;

namespace {

// Arguments 1 to 9, which create_channel and alter_channel share.
ChannelOptions OptionArguments(FunctionCallInfo fcinfo) {
    ChannelOptions options{};
    options.durable = pg::OptionalBool(fcinfo, 1);
    if (!PG_ARGISNULL(2)) options.schema = PG_GETARG_JSONB_P(2);
    if (const char *validation = pg::OptionalText(fcinfo, 3); validation != nullptr)
        options.validation = ValidationOfName(validation);
    if (const char *announce = pg::OptionalText(fcinfo, 4); announce != nullptr)
        options.announce = AnnounceOfName(announce);
    options.accept_notify = pg::OptionalBool(fcinfo, 5);
    if (!PG_ARGISNULL(6)) options.max_payload_bytes = PG_GETARG_INT32(6);
    options.description = pg::OptionalText(fcinfo, 7);
    if (const char *when_full = pg::OptionalText(fcinfo, 8); when_full != nullptr)
        options.when_full = WhenFullOfName(when_full);
    options.check_formats = pg::OptionalBool(fcinfo, 9);
    return options;
}

// The set of privileges in a text[]; NULL and unknown elements are errors.
uint8 PrivilegesArgument(FunctionCallInfo fcinfo, int argument) {
    Datum *elements;
    bool *nulls;
    int count;
    uint8 privileges = 0;

    if (PG_ARGISNULL(argument)) pg::ReportNull("privileges");
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    for (int i = 0; i < count; i++) {
        if (nulls[i])
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("privilege %d must not be NULL", i + 1)));
        privileges |= RequirePrivilege(TextDatumGetCString(elements[i]));
    }
    return privileges;
}

void ChangeGrants(FunctionCallInfo fcinfo, void (*change)(const char *, const char *, uint8)) {
    char *channel = ChannelNameArgument(fcinfo, 0);
    const char *grantee = pg::RequiredText(fcinfo, 1, "grantee");
    change(channel, grantee, PrivilegesArgument(fcinfo, 2));
}

// Channels that nobody declared can be published to, and declared by subscribing, not read.
uint8 PrivilegesOnUndeclared(Oid role) {
    uint8 privileges = kPrivilegePublish;
    if (pg::HasDatabasePrivilege(MyDatabaseId, role, ACL_CREATE)) privileges |= kPrivilegeSubscribe;
    return privileges;
}

}  // namespace

// herald.create_channel(channel, durable, schema, validation, announce, accept_notify,
//                       max_payload_bytes, description, when_full, check_formats, if_not_exists)
HERALD_FUNCTION(create_channel) {
    char *channel = ChannelNameArgument(fcinfo, 0);
    CreateChannel(channel, OptionArguments(fcinfo), pg::Flag(fcinfo, 10));
    PG_RETURN_VOID();
}

// herald.alter_channel(the same, with owner and force in the place of if_not_exists)
HERALD_FUNCTION(alter_channel) {
    char *channel = ChannelNameArgument(fcinfo, 0);
    ChannelOptions options = OptionArguments(fcinfo);
    options.owner = pg::OptionalText(fcinfo, 10);
    AlterChannel(channel, options, pg::Flag(fcinfo, 11));
    PG_RETURN_VOID();
}

// herald.drop_channel(channel, if_exists, force)
HERALD_FUNCTION(drop_channel) {
    char *channel = ChannelNameArgument(fcinfo, 0);
    DropChannel(channel, pg::Flag(fcinfo, 1), pg::Flag(fcinfo, 2));
    PG_RETURN_VOID();
}

// herald.grant_channel(channel, grantee, privileges)
HERALD_FUNCTION(grant_channel) {
    ChangeGrants(fcinfo, GrantChannel);
    PG_RETURN_VOID();
}

// herald.revoke_channel(channel, grantee, privileges)
HERALD_FUNCTION(revoke_channel) {
    ChangeGrants(fcinfo, RevokeChannel);
    PG_RETURN_VOID();
}

// herald.has_channel_privilege(role, channel, privilege): as core's has_..._privilege, several
// privileges with commas between them mean any of them.
HERALD_FUNCTION(has_channel_privilege) {
    char *role_name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    char *channel_name = ChannelNameArgument(fcinfo, 1);
    char *list = text_to_cstring(PG_GETARG_TEXT_PP(2));
    Oid role = pg::RoleByName(role_name);
    uint8 asked = 0;

    if (!OidIsValid(role))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role \"%s\" does not exist", role_name)));
    for (char *rest = list, *name; (name = strsep(&rest, ",")) != nullptr;) {
        while (*name == ' ') name++;
        for (char *end = name + std::strlen(name); end > name && end[-1] == ' ';) *--end = '\0';
        asked |= RequirePrivilege(name);
    }
    const Channel &channel = LookUpChannel(channel_name);
    uint8 privileges = !channel.declared      ? PrivilegesOnUndeclared(role)
                       : role == channel.role ? channel.privileges
                                              : PrivilegesOf(channel.id, channel.owner, role);
    PG_RETURN_BOOL((privileges & asked) != 0);
}

// herald_internal.stored_role(name, role) -> oid
HERALD_FUNCTION(stored_role) {
    const Oid role = pg::StoredRole(pg::OptionalText(fcinfo, 0), pg::OptionalText(fcinfo, 1));
    if (!OidIsValid(role)) PG_RETURN_NULL();
    PG_RETURN_OID(role);
}
