// See notify_share.hpp. Two sessions at the same time may exceed the limit by what they don't see of each other,
// which does no harm: the announcer listens to all of them.

#include "channel/notify_share.hpp"

#include "pg/as_owner.hpp"
#include "pg/spi.hpp"

namespace herald {

namespace {

struct NotifyChannels {
    int64 all;
    int64 of_owner;
};

NotifyChannels Count(const char *owner, int32 channel_id) {
    return pg::AsOwner([&] {
        (void)pg::SpiRun(
            "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE owner OPERATOR(pg_catalog.=) $1)"
            " FROM herald_internal.channel_store WHERE accept_notify AND id OPERATOR(pg_catalog.<>) $2",
            std::array{pg::Text(owner), pg::Int4(channel_id)});
        const NotifyChannels channels = {pg::SpiInt8(0, 1), pg::SpiInt8(0, 2)};
        return channels;
    });
}

}  // namespace

void RequireNotifyShare(const char *channel, const char *owner, int32 channel_id) {
    const NotifyChannels channels = Count(owner, channel_id);
    if (channels.of_owner < kMaxNotifyChannels - channels.all) return;
    ereport(
        ERROR,
        (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
         errmsg("channel \"%s\" cannot accept notifications: role \"%s\" owns too many channels that do", channel,
                owner),
         errdetail(INT64_FORMAT " of %d channels of the database accept notifications, " INT64_FORMAT
                                " are of that role. A role may own as many as are left.",
                   channels.all, kMaxNotifyChannels, channels.of_owner),
         errhint(
             "Turn accept_notify off where it is not needed, by herald.alter_channel(), or use herald.publish().")));
}

int64 CountNotifyChannels() { return Count("", 0).all; }

}  // namespace herald
