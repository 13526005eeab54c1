// See announcements.hpp.
//
// NOTIFY folds equal messages of one transaction. That is right for equal messages of one publisher,
// and wrong for those of two: where the second publisher's comes, the first one's goes into NOTIFY's queue at
// once, or where that can't be done a new transaction begins. (With a transaction for each of many
// equal messages, each would wake all LISTENers of the server.)

#include "announce/announcements.hpp"

#include "outbox/folding.hpp"
#include "pg/process.hpp"
#include "settings.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "access/transam.h"
#include "commands/async.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

constexpr int kBatch = 256;
constexpr int kTurns = 64;  // batches

struct Sent {
    uint64 hash;
    uint64 publisher;
};

// One transaction of announcements; static, because it is large and outlives an ERROR.
struct Batch {
    int skip;  // prepared transactions at the head of the queue that are undecided
    int peeked;
    int finished_count;
    int sent_count;
    int first_pending;  // of `sent`, that is not in NOTIFY's queue yet
    AnnouncementEntry entries[kBatch];
    uint32 numbers[kBatch];
    uint32 finished[kBatch];  // to be removed when the transaction has committed
    Sent sent[kBatch];
    int counters[kBatch];  // of the channels, for each sent one
};
Batch batch;

enum class Turn {
    kNothing,   // nothing committed is left
    kProgress,  // some were announced; look again
    kRefused,   // NOTIFY failed
};

// True where another publisher's equal message is in this transaction already.
bool WouldFold(uint64 hash, uint64 publisher) {
    for (int i = batch.first_pending; i < batch.sent_count; i++)
        if (batch.sent[i].hash == hash && batch.sent[i].publisher != publisher) return true;
    return false;
}

// The NOTIFYs of one transaction, up to one that has to wait for the next.
void NotifyBatch(DatabaseShared *database) {
    batch.peeked = PeekAnnouncements(database, batch.skip, batch.entries, batch.numbers, kBatch);
    // Newer than every entry seen, so that it can judge the prepared transactions.
    PopActiveSnapshot();
    PushActiveSnapshot(GetTransactionSnapshot());
    Snapshot snapshot = GetActiveSnapshot();
    for (int i = 0; i < batch.peeked; i++) {
        const AnnouncementEntry &entry = batch.entries[i];
        uint32 flags;
        const TransactionId prepared = PreparedAt(batch.numbers[i], &flags);
        if (TransactionIdIsValid(prepared)) {
            if (XidInMVCCSnapshot(prepared, snapshot)) {
                batch.skip++;
                continue;
            }
            // Its entries are peeked next, in its place.
            EndPrepared(database, Consumer::kAnnouncer, batch.numbers[i], TransactionIdDidCommit(prepared));
            return;
        }
        const char *payload;
        const char *channel = ReadOutboxText(batch.numbers[i], &payload);
        const uint64 hash = HashOfText(channel, entry.text_bytes);
        if (WouldFold(hash, entry.publisher)) {
            if (!pg::QueueNotifications()) return;
            batch.first_pending = batch.sent_count;
        }
        Async_Notify(channel, payload);
        batch.counters[batch.sent_count] = entry.counters;
        batch.sent[batch.sent_count++] = {hash, entry.publisher};
        batch.finished[batch.finished_count++] = batch.numbers[i];
    }
}

// It is tried again several times a second: the log need not have each of them.
int LogLevel() {
    static TimestampTz last = 0;
    const TimestampTz now = GetCurrentTimestamp();
    if (now - last < settings::sweep_interval * USECS_PER_SEC) return DEBUG1;
    last = now;
    return LOG;
}

Turn AnnounceBatch(DatabaseShared *database) {
    MemoryContext caller = CurrentMemoryContext;
    volatile bool refused = false;
    batch.peeked = batch.finished_count = batch.sent_count = batch.first_pending = 0;

    PG_TRY();
    {
        pg::BeginTransaction();
        NotifyBatch(database);
        pg::CommitTransaction();
    }
    PG_CATCH();
    {
        pg::AbortAndLog(caller, "could not announce messages",
                        "They stay in the outbox and are announced as soon as it is possible.", LogLevel());
        refused = true;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(caller);
    if (refused) {
        RemoveFromOutbox(database, Consumer::kAnnouncer, nullptr, 0);
        return Turn::kRefused;
    }
    // No interrupt between the commit and here: what was announced is not announced twice.
    RemoveFromOutbox(database, Consumer::kAnnouncer, batch.finished, batch.finished_count);
    for (int i = 0; i < batch.sent_count; i++) CountNow(batch.counters[i], ChannelCounter::kAnnounced, 1);
    CHECK_FOR_INTERRUPTS();
    return batch.peeked > 0 ? Turn::kProgress : Turn::kNothing;
}

}  // namespace

bool Announce(DatabaseShared *database, bool *more) {
    *more = false;
    if (OutboxLength(database, Consumer::kAnnouncer) == 0) return true;
    batch.skip = 0;
    for (int turns = 0; turns < kTurns; turns++) {
        switch (AnnounceBatch(database)) {
            case Turn::kProgress:
                break;
            case Turn::kNothing:
                return true;
            case Turn::kRefused:
                // Only a commit that NOTIFYs takes what everybody has read out of NOTIFY's queue, and none
                // can while it is full. To ask for its usage does the same.
                (void)DirectFunctionCall1(pg_notification_queue_usage, static_cast<Datum>(0));
                return false;
        }
    }
    *more = true;
    return true;
}

}  // namespace herald
