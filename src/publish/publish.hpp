// Publishing: checks, counts, stores and announces one message or a batch in the current transaction.
//
// Durable channels: the message is written to the log, and the outbox tells the dispatcher and the
// announcer at commit. Other channels: a NOTIFY with the payload as text, in this transaction.

#pragma once

#include "channel/channel.hpp"
#include "log/log_writer.hpp"
#include "outbox/outbox.hpp"
#include "pg/pg.hpp"

namespace herald {

// Refuses with a clear error what cannot publish: a standby, a read-only transaction, a parallel worker.
void RequirePublishAllowed();

// The channel, after the check that the current role may publish to it (42501, counted as rejected;
// 42704 where undeclared channels are refused).
const Channel &RequirePublishableChannel(const char *name, std::size_t length);

// Publishes; returns the message's id, or 0 where the channel is not durable. 54000 for a payload
// that is too large, counted as rejected.
int64 Publish(const Channel &channel, const NewMessage &message);
// The same for many messages of one channel; ids[i] is 0 where the channel is not durable.
void PublishBatch(const Channel &channel, const NewMessage *messages, int64 *ids, int count);

// Stores a notification that was heard on a channel with accept_notify, without announcing it again.
// For the announcer; returns the message's id.
int64 StoreNotified(const Channel &channel, Datum payload);

// What LISTENers of a durable channel get for a message: its payload, or a pointer to it where the
// channel announces pointers or the payload does not fit a NOTIFY. In the current memory context.
char *AnnouncementText(AnnounceMode mode, int64 message_id, uint32 payload_bytes, Datum payload);

}  // namespace herald
