// What channel_admin.cpp and channel_grants.cpp share.

#pragma once

#include "channel/channel.hpp"
#include "pg/pg.hpp"

namespace herald {

// Adds privileges to those that the grantee, `role` unless it is "public", has; checks nothing.
void AddGrant(int32 channel_id, const char *grantee, Oid role, uint8 privileges);

// After a change of a channel or its grants: tells the caches of all sessions (this one's at once) and,
// at commit, the background processes.
void NoteChannelChange();

}  // namespace herald
