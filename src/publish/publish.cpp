// See publish.hpp.

#include "publish/publish.hpp"

#include "log/key_hash.hpp"
#include "pg/extension.hpp"
#include "settings.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "access/xlog.h"
#include "commands/async.h"
#include "tcop/utility.h"
}

namespace herald {

namespace {

uint32 PayloadBytes(Datum payload) {
    return static_cast<uint32>(VARSIZE_ANY_EXHDR(DatumGetPointer(payload)));
}

// `element`: its number in a batch, from 1; 0: there is only one.
void CheckPayloadSize(const Channel &channel, uint32 bytes, int element) {
    uint32 limit = static_cast<uint32>(settings::max_payload);
    bool own = channel.max_payload_bytes > 0 && static_cast<uint32>(channel.max_payload_bytes) < limit;
    if (own) limit = static_cast<uint32>(channel.max_payload_bytes);
    if (bytes <= limit) return;

    CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    ereport(ERROR,
            (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
             element == 0 ? errmsg("payload for channel \"%s\" is too large", channel.name)
                          : errmsg("payload %d for channel \"%s\" is too large", element, channel.name),
             errdetail("It has %u bytes as jsonb; at most %u are allowed.", bytes, limit),
             own ? errhint("The limit is the channel's max_payload_bytes, see herald.alter_channel().")
                 : errhint("The limit is the setting herald.max_payload.")));
}

bool AnnouncerRuns() { return ConsumerRuns(ThisDatabase(), Consumer::kAnnouncer); }

// Announces a text that is stored nowhere: by the announcer, or where there is none by a NOTIFY of this
// transaction.
void AnnounceText(const Channel &channel, const char *text) {
    if (AnnouncerRuns()) {
        (void)CollectAnnouncement(channel.name, text, CountersOf(channel));
        return;
    }
    Async_Notify(channel.name, text);
    CountAtCommit(CountersOf(channel), ChannelCounter::kAnnounced, 1);
}

// Publishes to a channel that stores nothing.
void PublishEphemeral(const Channel &channel, Datum payload, uint32 bytes) {
    int counters = CountersOf(channel);
    if (channel.announce != AnnounceMode::kOff) {
        Jsonb *jsonb = DatumGetJsonbP(payload);
        char *text = JsonbToCString(nullptr, &jsonb->root, static_cast<int>(bytes));
        std::size_t length = std::strlen(text);
        if (length > kLongestNotify) {
            CountNow(counters, ChannelCounter::kRejected, 1);
            ereport(ERROR,
                    (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                     errmsg("payload for channel \"%s\" does not fit a notification", channel.name),
                     errdetail("It has %zu bytes as text; at most %zu are allowed.", length,
                               kLongestNotify),
                     errhint("Make the channel durable: its messages are stored, and announced by a "
                             "pointer.")));
        }
        AnnounceText(channel, text);
        pfree(text);
    }
    CountAtCommit(counters, ChannelCounter::kPublished, 1);
    CountAtCommit(counters, ChannelCounter::kPublishedBytes, bytes);
}

// Announces a message that is one too many for its transaction by a text of its own, in order with the
// others. Where NOTIFYs are taken as tasks only a pointer will do: it is known not to be one.
void CollectText(const Channel &channel, int64 message_id, const NewMessage &message) {
    AnnounceMode mode = channel.accept_notify ? AnnounceMode::kPointer : channel.announce;
    (void)CollectAnnouncement(
        channel.name,
        AnnouncementText(mode, message_id, PayloadBytes(message.payload), message.payload),
        CountersOf(channel));
}

void Collect(const Channel &channel, const MessageAddress &address, TimestampTz published_at,
             const NewMessage &message, bool announce) {
    OutboxEntry entry{};
    entry.counters = CountersOf(channel);
    entry.extension = pg::Tables().extension;
    entry.message_id = address.id;
    entry.published_at = published_at;
    entry.channel_id = channel.id;
    entry.block = ItemPointerGetBlockNumber(&address.tid);
    entry.offset = ItemPointerGetOffsetNumber(&address.tid);
    entry.segment = address.segment;
    entry.announce = static_cast<uint8>(channel.announce);
    if (message.key != 0)
        entry.key_hash = HashOfKey(reinterpret_cast<const text *>(DatumGetPointer(message.key)));
    entry.payload_bytes = PayloadBytes(message.payload);
    // Where no announcer will read the message, its text is kept for the NOTIFY of this transaction.
    const char *text = nullptr;
    if (announce && channel.announce == AnnounceMode::kPayload && !channel.accept_notify &&
        !AnnouncerRuns())
        text = AnnouncementText(channel.announce, address.id, entry.payload_bytes, message.payload);
    const bool collected =
        CollectPublication(entry, announce, text == nullptr ? nullptr : channel.name, text);
    if (announce && !collected) CollectText(channel, address.id, message);
}

void CountStored(const Channel &channel, uint64 messages, uint64 bytes) {
    int counters = CountersOf(channel);
    CountAtCommit(counters, ChannelCounter::kPublished, messages);
    CountAtCommit(counters, ChannelCounter::kPublishedBytes, bytes);
}

[[noreturn]] void RefuseUndeclared(const char *name) {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                    errmsg("channel \"%s\" is not declared", name),
                    errhint("Declare it with herald.create_channel(): herald.undeclared_channels is "
                            "\"refuse\".")));
    pg_unreachable();
}

}  // namespace

const Channel &RequirePublishable(const char *name, const char *function) {
    const Channel &channel = RequireNotifiable(name, function);
    if (channel.durable) PreventCommandIfReadOnly(function);
    return channel;
}

const Channel &RequireNotifiable(const char *name, const char *function) {
    PreventCommandDuringRecovery(function);
    PreventCommandIfParallelMode(function);

    const Channel &channel = LookUpChannel(name);
    if (!MayPublish(channel)) {
        CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                 errmsg("permission denied to publish to channel \"%s\"", name),
                 errhint("The channel's owner can grant it with herald.grant_channel().")));
    }
    if (!channel.declared) {
        auto policy = static_cast<settings::UndeclaredChannels>(settings::undeclared_channels);
        if (policy == settings::UndeclaredChannels::kRefuse) {
            CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
            RefuseUndeclared(name);
        }
        if (policy == settings::UndeclaredChannels::kWarn)
            ereport(WARNING, (errcode(ERRCODE_UNDEFINED_OBJECT),
                              errmsg("channel \"%s\" is not declared", name),
                              errhint("What is published there reaches only who listens now.")));
    }
    return channel;
}

int64 Publish(const Channel &channel, const NewMessage &message) {
    uint32 bytes = PayloadBytes(message.payload);
    CheckPayloadSize(channel, bytes, 0);
    if (!channel.durable) {
        PublishEphemeral(channel, message.payload, bytes);
        return 0;
    }
    TimestampTz now = GetCurrentTimestamp();
    MessageAddress address = WriteMessage(channel.id, now, channel.role, message);
    Collect(channel, address, now, message, channel.announce != AnnounceMode::kOff);
    CountStored(channel, 1, bytes);
    return address.id;
}

void PublishBatch(const Channel &channel, const NewMessage *messages, int64 *ids, int count) {
    uint64 bytes = 0;

    // All checks first: what is refused should not have cost the writing of what came before.
    for (int i = 0; i < count; i++) {
        CheckPayloadSize(channel, PayloadBytes(messages[i].payload), i + 1);
        bytes += PayloadBytes(messages[i].payload);
    }
    if (!channel.durable) {
        for (int i = 0; i < count; i++) {
            PublishEphemeral(channel, messages[i].payload, PayloadBytes(messages[i].payload));
            ids[i] = 0;
        }
        return;
    }
    if (count == 0) return;

    TimestampTz now = GetCurrentTimestamp();
    MessageAddress *addresses = static_cast<MessageAddress *>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(MessageAddress) * static_cast<Size>(count)));
    WriteMessages(channel.id, now, channel.role, messages, addresses, count);
    for (int i = 0; i < count; i++) {
        Collect(channel, addresses[i], now, messages[i], channel.announce != AnnounceMode::kOff);
        ids[i] = addresses[i].id;
    }
    pfree(addresses);
    CountStored(channel, static_cast<uint64>(count), bytes);
}

void NotifyPlain(const Channel &channel, const char *payload) {
    int counters = CountersOf(channel);
    if (channel.accept_notify) {
        // To be heard as anybody's NOTIFY, and stored.
        Async_Notify(channel.name, payload);
        CountAtCommit(counters, ChannelCounter::kAnnounced, 1);
        return;
    }
    if (std::strlen(payload) > kLongestNotify)  // word for word what pg_notify says
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("payload string too long")));
    AnnounceText(channel, payload);
    CountAtCommit(counters, ChannelCounter::kPublished, 1);
    CountAtCommit(counters, ChannelCounter::kPublishedBytes, std::strlen(payload));
}

int64 StoreNotified(const Channel &channel, Datum payload) {
    NewMessage message{payload, static_cast<Datum>(0), static_cast<Datum>(0)};
    uint32 bytes = PayloadBytes(payload);
    CheckPayloadSize(channel, bytes, 0);
    // Who sent a NOTIFY is not known.
    TimestampTz now = GetCurrentTimestamp();
    MessageAddress address = WriteMessage(channel.id, now, InvalidOid, message);
    Collect(channel, address, now, message, false);
    CountStored(channel, 1, bytes);
    return address.id;
}

char *AnnouncementText(AnnounceMode mode, int64 message_id, uint32 payload_bytes, Datum payload) {
    if (mode == AnnounceMode::kPayload) {
        Jsonb *jsonb = DatumGetJsonbP(payload);
        char *text = JsonbToCString(nullptr, &jsonb->root, static_cast<int>(payload_bytes));
        if (std::strlen(text) <= kLongestNotify) return text;
        pfree(text);
    }
    return psprintf("{\"herald\": {\"message_id\": " INT64_FORMAT ", \"bytes\": %u}}", message_id,
                    payload_bytes);
}

}  // namespace herald
