// See announcements.hpp.
//
// NOTIFY folds equal messages of one transaction. That is right for equal messages of one publisher,
// and wrong for those of two: where the second publisher's comes, a new transaction begins.

#include "announce/announcements.hpp"

#include "channel/channel.hpp"
#include "log/log_reader.hpp"
#include "pg/process.hpp"
#include "publish/publish.hpp"
#include "stats/channel_counters.hpp"
#include "worker/selection.hpp"

extern "C" {
#include "access/transam.h"
#include "commands/async.h"
#include "common/hashfn.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

constexpr int kBatch = 256;

struct Sent {
    uint64 hash;
    uint64 publisher;
};

// One transaction of announcements; static, because it is large and outlives an ERROR.
struct Batch {
    int skip;  // entries at the head of the queue that are undecided
    int peeked;
    int finished_count;
    int sent_count;
    OutboxEntry entries[kBatch];
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
bool WouldFold(const char *channel, const char *text, uint64 publisher, uint64 *hash) {
    *hash = hash_bytes_extended(reinterpret_cast<const unsigned char *>(text),
                                static_cast<int>(std::strlen(text)),
                                hash_bytes_extended(reinterpret_cast<const unsigned char *>(channel),
                                                    static_cast<int>(std::strlen(channel)), 0));
    for (int i = 0; i < batch.sent_count; i++)
        if (batch.sent[i].hash == *hash && batch.sent[i].publisher != publisher) return true;
    return false;
}

// What is to be sent for an entry; false where nothing is, or nothing any more.
bool ReadAnnouncement(const OutboxEntry &entry, uint32 number, const char **name, const char **text) {
    if (entry.text_bytes > 0) {
        *name = ReadOutboxText(number, text);
        return true;
    }
    if (entry.extension != ServedExtension()) return false;
    const Channel *channel = LookUpChannelById(entry.channel_id);
    AnnounceMode mode = static_cast<AnnounceMode>(entry.announce);
    if (channel == nullptr || mode == AnnounceMode::kOff) return false;
    *name = pstrdup(channel->name);
    StoredMessage message = {};
    ItemPointerData tid;
    ItemPointerSet(&tid, entry.block, entry.offset);
    // Moved or gone: a pointer still says that there was one.
    if (mode == AnnounceMode::kPayload &&
        !ReadMessage(entry.segment, tid, entry.message_id, &message))
        mode = AnnounceMode::kPointer;
    *text = AnnouncementText(mode, entry.message_id, entry.payload_bytes,
                             PointerGetDatum(message.payload));
    return true;
}

// The NOTIFYs of one transaction, up to one that would fold.
void NotifyBatch(DatabaseShared *database) {
    batch.peeked = PeekOutbox(database, Consumer::kAnnouncer, batch.skip, batch.entries,
                              batch.numbers, kBatch);
    // Newer than every entry seen, so that the messages are seen, too.
    PopActiveSnapshot();
    PushActiveSnapshot(GetTransactionSnapshot());
    Snapshot snapshot = GetActiveSnapshot();
    for (int i = 0; i < batch.peeked; i++) {
        const OutboxEntry &entry = batch.entries[i];
        const bool prepared = TransactionIdIsValid(entry.xid);
        if (prepared && XidInMVCCSnapshot(entry.xid, snapshot)) {
            batch.skip++;
            continue;
        }
        const char *name;
        const char *text;
        if (!(prepared && !TransactionIdDidCommit(entry.xid)) &&
            ReadAnnouncement(entry, batch.numbers[i], &name, &text)) {
            uint64 hash;
            if (WouldFold(name, text, entry.publisher, &hash)) return;
            Async_Notify(name, text);
            batch.counters[batch.sent_count] = entry.counters;
            batch.sent[batch.sent_count++] = {hash, entry.publisher};
        }
        batch.finished[batch.finished_count++] = batch.numbers[i];
    }
}

Turn AnnounceBatch(DatabaseShared *database) {
    MemoryContext caller = CurrentMemoryContext;
    volatile bool refused = false;
    batch.peeked = batch.finished_count = batch.sent_count = 0;

    PG_TRY();
    {
        pg::BeginTransaction();
        NotifyBatch(database);
        pg::CommitTransaction();
    }
    PG_CATCH();
    {
        pg::AbortAndLog(caller, "could not announce messages",
                        "They stay in the outbox and are announced as soon as it is possible.");
        refused = true;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(caller);
    if (refused) return Turn::kRefused;
    // No interrupt between the commit and here: what was announced is not announced twice.
    RemoveFromOutbox(database, Consumer::kAnnouncer, batch.finished, batch.finished_count);
    for (int i = 0; i < batch.sent_count; i++)
        CountNow(batch.counters[i], ChannelCounter::kAnnounced, 1);
    CHECK_FOR_INTERRUPTS();
    return batch.peeked > 0 ? Turn::kProgress : Turn::kNothing;
}

}  // namespace

bool Announce(DatabaseShared *database) {
    if (OutboxLength(database, Consumer::kAnnouncer) == 0) return true;
    batch.skip = 0;
    for (;;) {
        switch (AnnounceBatch(database)) {
            case Turn::kProgress:
                break;
            case Turn::kNothing:
                return true;
            case Turn::kRefused:
                return false;
        }
    }
}

}  // namespace herald
