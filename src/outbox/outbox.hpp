// The outbox: how publications reach the dispatcher and the announcer without a table scan.
//
// A transaction collects its publications in its own memory. Before it commits (where an ERROR still aborts
// cleanly) it takes cells of shared memory and fills them; in the commit callback, when other snapshots
// see its rows already, it links them to the consumers' queues and sets their latches: nothing there can
// fail. A prepared transaction's entries are linked at PREPARE, all of them as one (see prepared.hpp), and
// judged by the consumers' snapshots. An entry stays in shared memory until its consumer removes it, so
// that the death of a consumer loses nothing. Messages that find no room turn into a request to scan the
// log, announcements into NOTIFYs of the publishing transaction.

#pragma once

#include "registry/database.hpp"
#include "pg/transaction_part.hpp"

namespace herald {

// Where a message lies and whom it belongs to: for the dispatcher. Written once by the publisher.
struct TaskEntry {
    int64 message_id;
    TimestampTz published_at;
    Oid extension;  // whose ids these are: created anew, the extension counts from 1 again
    int32 channel_id;
    uint32 block;
    uint32 key_hash;  // 0: no key
    uint16 offset;
    uint8 segment;
};

// A text to NOTIFY: for the announcer.
struct AnnouncementEntry {
    // One number per transaction, in the order of the queue; written when it is linked. Equal
    // announcements of one transaction have been folded into one.
    uint64 publisher;
    // Not 0 where a text that is heard from anybody but the announcer would be taken for a new message
    // (accept_notify): then others send a pointer to this message instead.
    int64 message_id;
    uint32 payload_bytes;  // of that message
    int32 session;         // pid of the publisher; 0: a transaction that was prepared
    int32 counters;        // of the channel, see stats/channel_counters.hpp
    uint32 text_bytes;     // channel, 0, payload, 0
};

// Collects a message of the current (sub)transaction for the dispatcher, which scans the log instead
// where there are too many of them.
void CollectTask(const TaskEntry &entry);

// Collects an announcement of the current (sub)transaction: an equal one is folded, as NOTIFY does.
// `payload` has at most 7999 bytes. `message_id` and `payload_bytes` as in AnnouncementEntry.
void CollectAnnouncement(const char *channel, const char *payload, int32 counters, int64 message_id = 0,
                         uint32 payload_bytes = 0);

// True where tasks come with the commit of the current transaction: of messages of this channel (or of too many
// channels to tell), or of a replay.
bool BringsTasks(int32 channel_id);

// Sets flags for the consumers of this database when (and only if) the transaction commits.
void RaiseFlagAtCommit(uint32 flags);
// The same where it is committed by COMMIT PREPARED; else the transaction sees to it itself.
void RaiseFlagIfPrepared(uint32 flags);
// Makes the launcher look for the extension in this database, at commit: it was created, dropped, updated.
void LookForExtensionAtCommit();

// For the consumers: copies up to `capacity` entries of the own queue, oldest first, with their numbers,
// leaving out the first `skip`. They stay in the queue. Announcements that were peeked cannot be taken
// back by their publishers until the next removal (of none, where announcing failed).
int PeekTasks(DatabaseShared *database, int skip, TaskEntry *entries, uint32 *numbers, int capacity);
int PeekAnnouncements(DatabaseShared *database, int skip, AnnouncementEntry *entries, uint32 *numbers, int capacity);
// The text of an announcement that Peek gave, in the current memory context. `payload` points into it.
const char *ReadOutboxText(uint32 number, const char **payload);
// Of an entry that Peek gave, and which is no entry but what a prepared transaction has for the consumer, the
// transaction's id and the flags to be raised if it is committed. Invalid: it is an ordinary one.
TransactionId PreparedAt(uint32 number, uint32 *flags);
// Puts the entries of such a transaction into its place, or frees them. By the consumer, who knows that it has ended.
void EndPrepared(DatabaseShared *database, Consumer consumer, uint32 number, bool committed);
// Removes entries by the numbers Peek gave, in that order.
void RemoveFromOutbox(DatabaseShared *database, Consumer consumer, const uint32 *numbers, int count);
uint32 OutboxLength(DatabaseShared *database, Consumer consumer);

// Share of the outbox in use, 0 to 1, and how often something found no room there.
struct OutboxGauges {
    double usage;
    uint64 refusals;
};
OutboxGauges ReadOutboxGauges();

Size OutboxMemory();
void InitOutboxMemory();
// Called once per process, from _PG_init. `notify` announces by a NOTIFY of the current
// transaction: the way out where the announcer's queue has no room.
using DirectAnnouncer = void (*)(const AnnouncementEntry &entry, const char *channel, const char *payload);
extern const pg::TransactionPart kOutboxPart;

void InitOutbox(DirectAnnouncer notify);

}  // namespace herald
