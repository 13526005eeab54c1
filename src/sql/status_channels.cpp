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

// A publication that may be missed by someone: a single mistake is forgotten soon, one that goes on is not.
constexpr int64 kRecent = 10 * SECS_PER_MINUTE * USECS_PER_SEC;
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
    unheard.count += more;
    ReportListed(fcinfo, "unheard_channels", unheard, "channels",
                 "Published to within ten minutes, declared by nobody, and no session LISTENs now: correct the "
                 "name, or declare the channel by herald.create_channel(), if it is meant so.");
}

void ReportChannelStatistics(FunctionCallInfo fcinfo) {
    const ChannelCounterUsage usage = ReadChannelCounterUsage();
    const int capacity = ChannelCounterCapacity();
    Report(fcinfo, "channel_statistics", usage.used < capacity && usage.undeclared < capacity / 2,
           psprintf("%d of %d places in use, %d of %d by undeclared channels", usage.used, capacity, usage.undeclared,
                    capacity / 2),
           "Channels of the roles with most places are counted together as \"(other)\". Raise herald.max_channels, "
           "declare channels, or free the places of undeclared ones by herald.reset_stats().",
           {static_cast<double>(usage.used), "channels"});
}

}  // namespace

void ReportListeners(FunctionCallInfo fcinfo) {
    ReportChannelStatistics(fcinfo);
    const int64 accepting = CountNotifyChannels();
    Report(fcinfo, "notify_channels", accepting < kMaxNotifyChannels,
           psprintf(INT64_FORMAT " of %d channels accept notifications", accepting, kMaxNotifyChannels),
           "No other channel can: turn accept_notify off where it is not needed, by herald.alter_channel().",
           {static_cast<double>(accepting), "channels"});
    const ListenerUsage usage = ReadListenerUsage();
    Report(fcinfo, "listeners", usage.unrecorded == 0,
           psprintf("%d of %d places in use, %d more not recorded", usage.used, kListenerPlaces, usage.unrecorded),
           "herald.listeners and the counts of listeners lack those: one role has LISTENed to very many "
           "channels.",
           {static_cast<double>(usage.used), "places"});
    if (usage.unrecorded == 0)
        ReportUnheard(fcinfo);
    else
        Report(fcinfo, "unheard_channels", true, "unknown", nullptr);
}

}  // namespace herald
