// How many channels may accept notifications (accept_notify): each of them makes every NOTIFY of the database dearer
// for the announcer, so their number is limited.

#pragma once

#include "pg/pg.hpp"

namespace herald {

inline constexpr int kMaxNotifyChannels = 4096;  // of a database

// Refuses (53400) a channel that is to accept notifications if its owner has had a share of those channels. No
// owner gets more of them than are left to others. `channel_id`: does not count; 0: it is a new one.
void RequireNotifyShare(const char *channel, const char *owner, int32 channel_id);

// As the active snapshot shows them.
int64 CountNotifyChannels();

}  // namespace herald
