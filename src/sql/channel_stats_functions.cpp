// SQL entry points of the statistics of channels.

#include "channel/channel.hpp"
#include "core/histogram.hpp"
#include "listen/listeners.hpp"
#include "pg/guard.hpp"
#include "sql/look.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/tuplestore.h"
}

using namespace herald;

namespace {

// Columns of herald_internal.list_channel_stats, in this order.
enum StatsColumn : int {
    kChannel = 0,
    kFirstCounter,
    kListeners = kFirstCounter + kChannelCounters,
    kFirstPercentile,
    kLastPublishedAt = kFirstPercentile + 3,
    kLastDeliveredAt,
    kStatsReset,
    kStatsColumns,
};

constexpr double kPercentiles[] = {0.50, 0.95, 0.99};

// Counts of channels that others hide are hidden too; those of several databases together are for
// roles that see everything.
bool MaySee(const ChannelCounterSnapshot &snapshot, bool see_all) {
    if (!OidIsValid(snapshot.database)) return see_all;
    if (snapshot.database != MyDatabaseId) return false;
    return see_all || LookUpChannel(snapshot.channel).privileges != 0;
}

bool CountedAnything(const ChannelCounterSnapshot &snapshot) {
    for (uint64 counter : snapshot.counters)
        if (counter != 0) return true;
    return snapshot.stats_reset != 0;
}

void PutRow(ReturnSetInfo *result, const ChannelCounterSnapshot &snapshot, int64 listeners) {
    Datum values[kStatsColumns] = {};
    bool nulls[kStatsColumns] = {};

    values[kChannel] = CStringGetTextDatum(snapshot.channel);
    for (int i = 0; i < kChannelCounters; i++)
        values[kFirstCounter + i] = Int64GetDatum(static_cast<int64>(snapshot.counters[i]));
    values[kListeners] = Int64GetDatum(listeners);
    // Nobody can tell which channels the others are.
    nulls[kListeners] = !OidIsValid(snapshot.database);
    for (int i = 0; i < 3; i++) {
        std::optional<double> latency = core::Percentile(snapshot.latency, kPercentiles[i]);
        values[kFirstPercentile + i] = Float8GetDatum(latency.value_or(0) / 1000);
        nulls[kFirstPercentile + i] = !latency.has_value();
    }
    const TimestampTz times[] = {snapshot.last_published_at, snapshot.last_delivered_at, snapshot.stats_reset};
    for (int i = 0; i < 3; i++) {
        values[kLastPublishedAt + i] = TimestampTzGetDatum(times[i]);
        nulls[kLastPublishedAt + i] = times[i] == 0;
    }
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

}  // namespace

// Behind the view herald.channel_stats.
HERALD_FUNCTION(list_channel_stats) {
    ChannelCounterSnapshot snapshot;
    bool see_all = MaySeeEverything();
    int listener_count;

    InitMaterializedSRF(fcinfo, 0);
    const Listener *listeners = ReadListeners(MyDatabaseId, &listener_count);
    for (int number = 0; number <= ChannelCounterCapacity(); number++) {
        if (!ReadChannelCounters(number, &snapshot) || !MaySee(snapshot, see_all)) continue;
        // Slots are taken before anything is counted, also by transactions that roll back.
        if (!CountedAnything(snapshot)) continue;
        PutRow(reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo), snapshot,
               CountListeners(listeners, listener_count, snapshot.channel));
    }
    return static_cast<Datum>(0);
}

// herald.reset_stats(channel text)
HERALD_FUNCTION(reset_stats) {
    bool all = PG_ARGISNULL(0);
    char *name = all ? nullptr : ChannelNameArgument(fcinfo, 0);

    if (!MaySeeEverything()) {
        if (all)
            ereport(ERROR,
                    (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to reset all statistics"),
                     errhint("Only superusers and members of pg_monitor may; owners of channels "
                             "may reset those.")));
        const Channel &channel = LookUpChannel(name);
        if (!channel.declared)
            ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                            errmsg("permission denied to reset the statistics of channel \"%s\"", name),
                            errdetail("Nobody declared it, so it belongs to nobody."),
                            errhint("Only superusers and members of pg_monitor may.")));
        RequireChannelOwner(channel);
    }
    (void)ResetChannelCounters(MyDatabaseId, name);
    PG_RETURN_VOID();
}
