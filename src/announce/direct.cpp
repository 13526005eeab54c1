// See direct.hpp.

#include "announce/direct.hpp"

#include "channel/channel.hpp"
#include "publish/publish.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "commands/async.h"
}

namespace herald {

void AnnounceDirectly(const OutboxEntry &entry) {
    const Channel *channel = LookUpChannelById(entry.channel_id);
    if (channel == nullptr) return;
    Async_Notify(channel->name, AnnouncementText(AnnounceMode::kPointer, entry.message_id,
                                                 entry.payload_bytes, static_cast<Datum>(0)));
    CountAtCommit(CountersOf(*channel), ChannelCounter::kAnnounced, 1);
}

}  // namespace herald
