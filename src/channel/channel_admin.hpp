// Changes of channels and of the privileges on them. All of them check the caller's rights, write as
// the extension's owner, and tell the other sessions and the background processes at commit.

#pragma once

#include "channel/channel.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

// Arguments of create and alter; what is left out keeps its value in alter and its default in create.
struct ChannelOptions {
    std::optional<bool> durable;
    std::optional<bool> accept_notify;
    std::optional<AnnounceMode> announce;
    std::optional<int32> max_payload_bytes;  // 0: no limit of its own
    std::optional<WhenFull> when_full;
    std::optional<Validation> validation;
    std::optional<bool> check_formats;
    Jsonb *schema;            // NULL: left out; the JSON value null: none
    const char *description;  // NULL: left out
    const char *owner;        // NULL: left out; only for alter
};

// Declares a channel owned by the caller, who needs CREATE on the database. 42501 for a name that others use; 42710
// where it exists, unless `if_not_exists`, which gives a notice.
void CreateChannel(const char *name, const ChannelOptions &options, bool if_not_exists);
// 23514 where a new schema does not fit what is stored, unless `force`.
void AlterChannel(const char *name, const ChannelOptions &options, bool force);
// 2BP01 while subscriptions or unsettled messages exist, unless `force`.
void DropChannel(const char *name, bool if_exists, bool force);

// `privileges` is a set of ChannelPrivilege; grantee "public" is everybody.
void GrantChannel(const char *name, const char *grantee, uint8 privileges);
void RevokeChannel(const char *name, const char *grantee, uint8 privileges);

// For subscribe: declares a durable channel on which everybody may publish (as before), owned by the caller, or where
// others use the name by the owner of the database; returns its id. Where the channel was declared meanwhile: its id.
int32 DeclareForSubscription(const char *name);

}  // namespace herald
