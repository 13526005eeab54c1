// See direct.hpp.

#include "announce/direct.hpp"

#include "channel/channel.hpp"
#include "publish/publish.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "commands/async.h"
}

namespace herald {

void AnnounceDirectly(const OutboxEntry &entry, const char *channel, const char *payload) {
    if (channel == nullptr) {
        const Channel *stored_in = LookUpChannelById(entry.channel_id);
        if (stored_in == nullptr) return;
        channel = stored_in->name;
        payload = AnnouncementText(AnnounceMode::kPointer, entry.message_id, entry.payload_bytes,
                                   static_cast<Datum>(0));
    }
    Async_Notify(channel, payload);
    CountAtCommit(entry.counters, ChannelCounter::kAnnounced, 1);
}

}  // namespace herald
