// The rows of herald.status() about channels and who listens to them.

#include "pg/pg.hpp"

#include "channel/channel.hpp"
#include "channel/notify_share.hpp"
#include "listen/listeners.hpp"
#include "outbox/outbox.hpp"
#include "sql/status_rows.hpp"
#include "stats/channel_counters.hpp"

namespace herald {

namespace {

constexpr int64 kRecent = USECS_PER_DAY;  // a publication that may be missed by someone
constexpr int kListedNames = 10;

// An undeclared channel has no subscription. Where nobody LISTENs either, its name may be mistyped, here
// or there.
void ReportUnheard(FunctionCallInfo fcinfo) {
    ChannelCounterSnapshot snapshot;
    Listed unheard;
    int listener_count;
    int more = 0;
    const TimestampTz now = GetCurrentTimestamp();
    const Listener *listeners = ReadListeners(MyDatabaseId, &listener_count);

    InitListed(&unheard);
    for (int number = 0; number < ChannelCounterCapacity(); number++) {
        if (!ReadChannelCounters(number, &snapshot) || snapshot.database != MyDatabaseId) continue;
        if (snapshot.last_published_at < now - kRecent) continue;
        if (CountListeners(listeners, listener_count, snapshot.channel) > 0) continue;
        if (LookUpChannel(snapshot.channel).declared) continue;
        if (unheard.count < kListedNames)
            AddListed(&unheard, snapshot.channel, nullptr);
        else
            more++;
    }
    if (more > 0) appendStringInfo(&unheard.text, "; and %d more", more);
    ReportListed(fcinfo, "unheard_channels", unheard,
                 "Published to within a day, declared by nobody, and no session LISTENs now: correct the "
                 "name, or declare the channel by herald.create_channel().");
}

void ReportChannelStatistics(FunctionCallInfo fcinfo) {
    const ChannelCounterUsage usage = ReadChannelCounterUsage();
    const int capacity = ChannelCounterCapacity();
    Report(fcinfo, "channel_statistics", usage.used < capacity && usage.undeclared < capacity / 2,
           psprintf("%d of %d places in use, %d of %d by undeclared channels", usage.used, capacity, usage.undeclared,
                    capacity / 2),
           "Channels of the roles with most places are counted together as \"(other)\". Raise herald.max_channels, "
           "declare channels, or free the places of undeclared ones by herald.reset_stats().");
}

}  // namespace

void ReportListeners(FunctionCallInfo fcinfo) {
    ReportChannelStatistics(fcinfo);
    const int64 accepting = CountNotifyChannels();
    Report(fcinfo, "notify_channels", accepting < kMaxNotifyChannels,
           psprintf(INT64_FORMAT " of %d channels accept notifications", accepting, kMaxNotifyChannels),
           "No other channel can: turn accept_notify off where it is not needed, by herald.alter_channel().");
    const ListenerUsage usage = ReadListenerUsage();
    Report(fcinfo, "listeners", usage.unrecorded == 0,
           psprintf("%d of %d places in use, %d more not recorded", usage.used, kListenerPlaces,
                    usage.unrecorded),
           "herald.listeners and the counts of listeners lack those: one role has LISTENed to very many "
           "channels.");
    if (usage.unrecorded == 0)
        ReportUnheard(fcinfo);
    else
        Report(fcinfo, "unheard_channels", true, "unknown", nullptr);
}

}  // namespace herald
