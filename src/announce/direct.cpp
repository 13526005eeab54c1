// See direct.hpp.

#include "announce/direct.hpp"

#include "publish/publish.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "commands/async.h"
}

namespace herald {

void AnnounceDirectly(const AnnouncementEntry &entry, const char *channel, const char *payload) {
    Async_Notify(channel, entry.message_id == 0 ? payload : PointerText(entry.message_id, entry.payload_bytes));
    CountAtCommit(entry.counters, ChannelCounter::kAnnounced, 1);
}

}  // namespace herald
