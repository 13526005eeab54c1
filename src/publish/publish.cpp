// See publish.hpp.

#include "publish/publish.hpp"

#include "log/key_hash.hpp"
#include "pg/extension.hpp"
#include "publish/pointer_store.hpp"
#include "publish/payload_schema.hpp"
#include "settings.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "access/xlog.h"
#include "commands/async.h"
#include "tcop/utility.h"
}

namespace herald {

namespace {

// How long a segment of the log may be locked before channels that give up their oldest messages are bounded by
// herald.max_log_size as the others are.
constexpr TimestampTz kHeldForLong = USECS_PER_MINUTE;

uint32 BytesOf(Datum value) { return static_cast<uint32>(VARSIZE_ANY_EXHDR(DatumGetPointer(value))); }

[[noreturn]] void RefusePayload(const Channel &channel, uint32 bytes, uint32 limit, int element) {
    const bool own = limit < static_cast<uint32>(settings::max_payload);
    CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    element == 0 ? errmsg("payload for channel \"%s\" is too large", channel.name)
                                 : errmsg("payload %d for channel \"%s\" is too large", element, channel.name),
                    errdetail("It has %u bytes as jsonb; at most %u are allowed.", bytes, limit),
                    own ? errhint("The limit is the channel's max_payload_bytes, see herald.alter_channel().")
                        : errhint("The limit is the setting herald.max_payload.")));
    pg_unreachable();
}

[[noreturn]] void RefuseKey(const Channel &channel, uint32 bytes, int element) {
    CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    ereport(ERROR,
            (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
             element == 0 ? errmsg("key of a message to channel \"%s\" is too long", channel.name)
                          : errmsg("key of message %d to channel \"%s\" is too long", element, channel.name),
             errdetail("It has %u bytes; at most %u are allowed.", bytes, kLongestKey),
             errhint("Messages with the same key are handled in order; a hash of what they have in common will do.")));
    pg_unreachable();
}

[[noreturn]] void RefuseHeaders(const Channel &channel, uint32 bytes, int element) {
    CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    ereport(ERROR,
            (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
             element == 0 ? errmsg("headers of a message to channel \"%s\" are too large", channel.name)
                          : errmsg("headers of message %d to channel \"%s\" are too large", element, channel.name),
             errdetail("They have %u bytes as jsonb; at most %u are allowed.", bytes, kLargestHeaders),
             errhint("Put what is large into the payload.")));
    pg_unreachable();
}

// Returns the bytes of the payload. `element`: its number in a batch, from 1; 0: there is only one.
uint32 CheckSizes(const Channel &channel, const NewMessage &message, int element) {
    const uint32 bytes = BytesOf(message.payload), limit = LargestPayload(channel);
    if (bytes > limit) RefusePayload(channel, bytes, limit, element);
    if (message.key != 0 && BytesOf(message.key) > kLongestKey) RefuseKey(channel, BytesOf(message.key), element);
    if (message.headers != 0 && BytesOf(message.headers) > kLargestHeaders)
        RefuseHeaders(channel, BytesOf(message.headers), element);
    return bytes;
}

// Publishes to a channel that stores nothing. Returns the id by which a payload that is too large for a
// NOTIFY can be fetched for a while; 0: it was announced as a whole, or could not be kept.
int64 PublishEphemeral(const Channel &channel, Datum payload, uint32 bytes, const char *plain = nullptr) {
    const int counters = CountersOf(channel);
    int64 id = 0;
    if (channel.announce != AnnounceMode::kOff && plain != nullptr) {
        CollectAnnouncement(channel.name, plain, counters);
    } else if (channel.announce != AnnounceMode::kOff) {
        Jsonb *jsonb = DatumGetJsonbP(payload);
        char *text = JsonbToCString(nullptr, &jsonb->root, static_cast<int>(bytes));
        if (std::strlen(text) > kLongestNotify) {
            pfree(text);
            id = KeepPayload(channel.name, payload, bytes);
            text = PointerText(id, bytes);
        }
        CollectAnnouncement(channel.name, text, counters);
        pfree(text);
    }
    CountAtCommit(counters, ChannelCounter::kPublished, 1);
    CountAtCommit(counters, ChannelCounter::kPublishedBytes, bytes);
    return id;
}

void Collect(const Channel &channel, const MessageAddress &address, TimestampTz published_at,
             const NewMessage &message) {
    TaskEntry entry{};
    entry.extension = pg::Tables().extension;
    entry.message_id = address.id;
    entry.published_at = published_at;
    entry.channel_id = channel.id;
    entry.block = ItemPointerGetBlockNumber(&address.tid);
    entry.offset = ItemPointerGetOffsetNumber(&address.tid);
    entry.segment = address.segment;
    if (message.key != 0) entry.key_hash = HashOfKey(reinterpret_cast<const text *>(DatumGetPointer(message.key)));
    CollectTask(entry);
}

char *AnnouncementText(AnnounceMode mode, int64 message_id, Datum payload) {
    const uint32 bytes = BytesOf(payload);
    if (mode == AnnounceMode::kPayload) {
        Jsonb *jsonb = DatumGetJsonbP(payload);
        char *text = JsonbToCString(nullptr, &jsonb->root, static_cast<int>(bytes));
        if (std::strlen(text) <= kLongestNotify) return text;
        pfree(text);
    }
    return PointerText(message_id, bytes);
}

// What LISTENers of a durable channel get. Where NOTIFYs are taken as tasks, a payload must come from the
// announcer; anybody else sends a pointer, which is known not to be one.
void AnnounceStored(const Channel &channel, int64 id, Datum payload, const char *plain = nullptr) {
    const uint32 bytes = BytesOf(payload);
    if (channel.announce == AnnounceMode::kOff) return;
    const bool as_text = plain != nullptr && channel.announce == AnnounceMode::kPayload;
    char *text = as_text ? pstrdup(plain) : AnnouncementText(channel.announce, id, payload);
    CollectAnnouncement(channel.name, text, CountersOf(channel), channel.accept_notify ? id : 0, bytes);
    pfree(text);
}

// The announcer measures the log now and then: the limit is not a sharp one.
void CheckLogSize(const Channel &channel) {
    if (!LogIsFull(channel)) return;
    DatabaseShared *database = ThisDatabase();
    CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    ereport(
        ERROR,
        (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("the log of messages has reached herald.max_log_size"),
         errdetail("It takes " UINT64_FORMAT " MB.", pg_atomic_read_u64(&database->log.bytes) / (1024 * 1024)),
         errhint("herald.status() says what keeps it from being emptied.")));
}

void CountStored(const Channel &channel, uint64 messages, uint64 bytes) {
    int counters = CountersOf(channel);
    CountAtCommit(counters, ChannelCounter::kPublished, messages);
    CountAtCommit(counters, ChannelCounter::kPublishedBytes, bytes);
}

[[noreturn]] void RefuseUndeclared(const char *name) {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("channel \"%s\" is not declared", name),
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
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
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
            ereport(WARNING, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("channel \"%s\" is not declared", name),
                              errhint("What is published there reaches only who listens now.")));
    }
    return channel;
}

uint32 LargestPayload(const Channel &channel) {
    const uint32 limit = static_cast<uint32>(settings::max_payload);
    if (channel.max_payload_bytes <= 0) return limit;
    return Min(limit, static_cast<uint32>(channel.max_payload_bytes));
}

bool LogIsFull(const Channel &channel) {
    if (settings::max_log_size == 0 || !channel.durable) return false;
    const uint64 limit = static_cast<uint64>(settings::max_log_size) * 1024 * 1024;
    DatabaseShared *database = ThisDatabase();
    if (pg_atomic_read_u64(&database->log.bytes) < limit) return false;
    // What is oldest makes room, unless it can't for long.
    const TimestampTz held = static_cast<TimestampTz>(pg_atomic_read_u64(&database->log.held_since));
    return channel.when_full != WhenFull::kDeadLetters || (held != 0 && GetCurrentTimestamp() - held >= kHeldForLong);
}

int64 Publish(const Channel &channel, const NewMessage &message, const char *plain) {
    const uint32 bytes = CheckSizes(channel, message, 0);
    if (channel.validation != Validation::kOff) CheckPayloadSchema(channel, message.payload);
    if (!channel.durable) return PublishEphemeral(channel, message.payload, bytes, plain);
    CheckLogSize(channel);
    TimestampTz now = GetCurrentTimestamp();
    MessageAddress address = WriteMessage(channel.id, channel.schema_version, now, channel.role, message);
    Collect(channel, address, now, message);
    AnnounceStored(channel, address.id, message.payload, plain);
    CountStored(channel, 1, bytes);
    return address.id;
}

void PublishBatch(const Channel &channel, const NewMessage *messages, int64 *ids, int count) {
    uint64 bytes = 0;

    // All checks first: what is refused should not have cost the writing of what came before.
    for (int i = 0; i < count; i++) {
        CHECK_FOR_INTERRUPTS();
        bytes += CheckSizes(channel, messages[i], i + 1);
    }
    if (channel.validation != Validation::kOff) CheckPayloadSchemas(channel, messages, count);
    if (!channel.durable) {
        for (int i = 0; i < count; i++) {
            CHECK_FOR_INTERRUPTS();
            ids[i] = PublishEphemeral(channel, messages[i].payload, BytesOf(messages[i].payload));
        }
        return;
    }
    if (count == 0) return;

    CheckLogSize(channel);
    TimestampTz now = GetCurrentTimestamp();
    MessageAddress *addresses = static_cast<MessageAddress *>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(MessageAddress) * static_cast<Size>(count)));
    WriteMessages(channel.id, channel.schema_version, now, channel.role, messages, addresses, count);
    for (int i = 0; i < count; i++) {
        CHECK_FOR_INTERRUPTS();
        Collect(channel, addresses[i], now, messages[i]);
        AnnounceStored(channel, addresses[i].id, messages[i].payload);
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
    CollectAnnouncement(channel.name, payload, counters);
    CountAtCommit(counters, ChannelCounter::kPublished, 1);
    CountAtCommit(counters, ChannelCounter::kPublishedBytes, std::strlen(payload));
}

int64 StoreNotified(const Channel &channel, Datum payload) {
    NewMessage message{payload, static_cast<Datum>(0), static_cast<Datum>(0)};
    const uint32 bytes = CheckSizes(channel, message, 0);
    if (channel.validation != Validation::kOff) CheckPayloadSchema(channel, payload);
    // Who sent a NOTIFY is not known.
    TimestampTz now = GetCurrentTimestamp();
    MessageAddress address = WriteMessage(channel.id, channel.schema_version, now, InvalidOid, message);
    Collect(channel, address, now, message);
    CountStored(channel, 1, bytes);
    return address.id;
}

char *PointerText(int64 message_id, uint32 payload_bytes) {
    if (message_id == 0) return psprintf("{\"herald\": {\"message_id\": null, \"bytes\": %u}}", payload_bytes);
    return psprintf("{\"herald\": {\"message_id\": " INT64_FORMAT ", \"bytes\": %u}}", message_id, payload_bytes);
}

}  // namespace herald
