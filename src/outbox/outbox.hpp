// The outbox: how publications reach the dispatcher and the announcer without a table scan.
//
// A transaction collects its publications in its own memory. Before it commits (where an ERROR still aborts
// cleanly) it takes cells of shared memory and fills them; in the commit callback, when other snapshots
// see its rows already, it links them to the consumers' queues and sets their latches: nothing there can
// fail. A prepared transaction's entries are linked at PREPARE, tagged with its transaction id, and
// judged by the consumers' snapshots. An entry stays in shared memory until its consumer removes it, so
// that the death of a consumer loses nothing. Publications that find no room turn into a request to
// scan the log, announcements into NOTIFYs of the publishing transaction.

#pragma once

#include "outbox/database.hpp"
#include "pg/pg.hpp"

namespace herald {

// Where a message lies and whom it belongs to, or an announcement that is all there is. Written once by
// the publisher.
struct OutboxEntry {
    int64 message_id;  // 0: not stored, only the announcement's text
    TimestampTz published_at;
    uint64 publisher;     // one number per transaction: equal announcements of one of them fold
    TransactionId xid;    // of a prepared transaction; invalid: committed
    Oid extension;        // whose ids these are: created anew, the extension counts from 1 again
    int32 channel_id;
    int32 counters;       // of the channel, see stats/channel_counters.hpp
    uint32 block;
    uint16 offset;
    uint8 segment;
    uint8 announce;       // an AnnounceMode, for the announcer
    uint32 key_hash;      // 0: no key
    uint32 payload_bytes; // of the payload as jsonb, for a pointer announcement
    uint32 text_bytes;    // of the text to announce, in further cells: channel, 0, payload, 0; 0: none
};

// Collects a publication of the current (sub)transaction. `announce` is false where the channel's
// announcements are off. `channel` and `payload` are what to announce literally, or NULL: then the
// announcer reads the message, or whoever has to stand in for it sends a pointer. False where there are
// too many in this transaction: the dispatcher will scan the log, and the caller has to announce by
// itself.
bool CollectPublication(const OutboxEntry &entry, bool announce, const char *channel,
                        const char *payload);

// Collects an announcement of the current (sub)transaction that is stored nowhere. An equal one of the
// same transaction is there already: then false, as NOTIFY folds them. `payload` has at most 7999 bytes.
bool CollectAnnouncement(const char *channel, const char *payload, int32 counters);

// Sets flags for the consumers of this database when (and only if) the transaction commits.
void RaiseFlagAtCommit(uint32 flags);
// Makes the launcher look for the extension in this database, at commit: it was created, dropped, updated.
void LookForExtensionAtCommit();

// For the consumer: copies up to `capacity` entries of its queue, oldest first, with their numbers, leaving
// out the first `skip`. They stay in the queue.
int PeekOutbox(DatabaseShared *database, Consumer consumer, int skip, OutboxEntry *entries,
               uint32 *numbers, int capacity);
// The text of an entry that Peek gave, in the current memory context. `payload` points into it.
const char *ReadOutboxText(uint32 number, const char **payload);
// Removes entries by the numbers PeekOutbox gave, in that order.
void RemoveFromOutbox(DatabaseShared *database, Consumer consumer, const uint32 *numbers,
                      int count);
uint32 OutboxLength(DatabaseShared *database, Consumer consumer);
// Share of the outbox in use, 0 to 1.
double OutboxUsage();

Size OutboxMemory();
void InitOutboxMemory();
// Registers the transaction callbacks; from _PG_init. `notify` announces an entry by a NOTIFY of the current
// transaction: the way out where the announcer's queue has no room. `channel` is NULL where there is no
// text to send literally.
using DirectAnnouncer = void (*)(const OutboxEntry &entry, const char *channel, const char *payload);
void InitOutbox(DirectAnnouncer notify);

}  // namespace herald
