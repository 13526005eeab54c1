// Publishing: checks, counts, stores and announces messages in the current transaction.
//
// Durable channels: the message is written to the log, and the outbox tells the dispatcher and the
// announcer at commit. Other channels: the announcer gets the payload as text, or a pointer where that is
// too long for a NOTIFY; key and headers are for subscriptions and go nowhere.
//
// All that a message carries is limited: what a publisher stores, each worker of each subscription holds.
// The size of a payload is that of the jsonb value, uncompressed: known without turning it into text,
// and the same whatever form the client sent it in.

#pragma once

#include "channel/channel.hpp"
#include "log/log_writer.hpp"
#include "outbox/outbox.hpp"
#include "pg/pg.hpp"

namespace herald {

// The longest payload of a NOTIFY, in bytes.
inline constexpr std::size_t kLongestNotify = 7999;

// Limits of a message's key, and of its headers as jsonb, in bytes.
inline constexpr uint32 kLongestKey = 2048;
inline constexpr uint32 kLargestHeaders = 65536;

// The channel, after the checks that it may be published to here and now: 25006 on a standby or in a
// read-only transaction (a channel that is not durable needs no writing), 42501 where the current role
// may not, 42704 where undeclared channels are refused; the last two count as rejected. `function` is
// for the message.
const Channel &RequirePublishable(const char *name, const char *function);

// The same for NOTIFY, which stores nothing and so is allowed in a read-only transaction.
const Channel &RequireNotifiable(const char *name, const char *function);

// Publishes; returns the message's id, or 0 where nothing is stored. 54000 for a payload, key or headers
// that are too large, 23514 for one that does not fit the channel's schema; both count as rejected. `plain`: what
// is announced instead of the payload (which is this text as a JSON string), at most kLongestNotify bytes.
int64 Publish(const Channel &channel, const NewMessage &message, const char *plain = nullptr);
// The same for many messages of one channel; ids[i] is 0 where nothing is stored.
void PublishBatch(const Channel &channel, const NewMessage *messages, int64 *ids, int count);

// For those who must not fail: what Publish would refuse, told beforehand.
uint32 LargestPayload(const Channel &channel);
bool LogIsFull(const Channel &channel);

// NOTIFY with its own errors, counted for the channel where it succeeds; as published, too, unless
// the channel stores notifications: then storing it counts.
void NotifyPlain(const Channel &channel, const char *payload);

// Stores a notification that was heard on a channel with accept_notify, without announcing it again.
// For the announcer; returns the message's id. 54000 where it is larger than the channel allows.
int64 StoreNotified(const Channel &channel, Datum payload);

// The announcement of a payload that LISTENers have to fetch; id 0: they can't. In the current memory
// context.
char *PointerText(int64 message_id, uint32 payload_bytes);

}  // namespace herald
