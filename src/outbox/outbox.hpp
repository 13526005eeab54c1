// The outbox: how publications reach the dispatcher and the announcer without a table scan.
//
// A transaction collects its publications in its own memory. Before it commits or prepares (where an
// ERROR still aborts cleanly) it appends one entry per publication and consumer, tagged with its top
// transaction id; at commit it only sets latches. The consumer decides with a snapshot of its own which
// entries are committed. An entry stays in shared memory until its consumer removes it, so that the
// death of a consumer loses nothing. Entries that find no room turn into a request to scan the log.

#pragma once

#include "outbox/database.hpp"
#include "pg/pg.hpp"

namespace herald {

// Where a message lies and whom it belongs to. Written once by the publisher.
struct OutboxEntry {
    int64 message_id;
    TimestampTz published_at;
    TransactionId xid;
    Oid extension;  // whose ids these are: created anew, the extension counts from 1 again
    int32 channel_id;
    uint32 block;
    uint16 offset;
    uint8 segment;
    uint8 announce;      // an AnnounceMode, for the announcer
    uint32 key_hash;     // 0: no key
    uint32 payload_bytes;  // of the payload as jsonb, for a pointer announcement
};

// Collects a publication of the current (sub)transaction. `announce` is false where the channel's
// announcements are off or were sent otherwise. False where there are too many in this transaction: the
// dispatcher will scan the log, and the caller has to announce by itself.
bool CollectPublication(const OutboxEntry &entry, bool announce);

// Sets flags for the consumers of this database when (and only if) the transaction commits.
void RaiseFlagAtCommit(uint32 flags);
// Makes the launcher look for the extension in this database, at commit: it was created, dropped, updated.
void LookForExtensionAtCommit();

// For the consumer: copies up to `capacity` entries of its queue, oldest first, with their numbers, leaving
// out the first `skip`. They stay in the queue.
int PeekOutbox(DatabaseShared *database, Consumer consumer, int skip, OutboxEntry *entries,
               uint32 *numbers, int capacity);
// Removes entries by the numbers PeekOutbox gave.
void RemoveFromOutbox(DatabaseShared *database, Consumer consumer, const uint32 *numbers,
                      int count);
uint32 OutboxLength(DatabaseShared *database, Consumer consumer);
// Share of the outbox in use, 0 to 1.
double OutboxUsage();

Size OutboxMemory();
void InitOutboxMemory();
// Registers the transaction callbacks; from _PG_init. `notify` announces an entry by a NOTIFY of the current
// transaction: the way out where the announcer's queue has no room.
void InitOutbox(void (*notify)(const OutboxEntry &));

}  // namespace herald
