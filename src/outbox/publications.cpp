// The publisher's side of the outbox: what the current transaction has published so far, and what
// happens to it at the ends of savepoints, commits and prepares.
//
// The list lives in TopMemoryContext and is kept from one transaction to the next, so that the usual
// transaction with one publication allocates nothing; texts lie in the transaction's own memory.

#include "outbox/folding.hpp"
#include "outbox/outbox.hpp"
#include "outbox/queue.hpp"

extern "C" {
#include "access/xact.h"
}

namespace herald {

namespace {

// A transaction that stores more messages than this asks for a scan of the log instead of filling the
// outbox.
constexpr uint32 kMaxStored = 4096;
constexpr uint32 kKeptCapacity = 64;
// Entries of channels without subscribers that wait until the dispatcher is woken to drop them.
constexpr uint32 kIdleQueue = 1024;

struct Collected {
    OutboxEntry entry;
    const char *text;  // channel, 0, payload, 0; NULL: the announcer reads the message
    SubTransactionId subtransaction;
    bool announce;
};

Collected *collected = nullptr;
uint32 collected_count = 0;
uint32 collected_capacity = 0;
uint32 stored_count = 0;    // of them
bool overflown = false;     // too many, or no room: scan at commit
// Filled before the commit, linked in the commit callback; guarded by nobody until then.
OutboxChain chains[kConsumers];
// Not subtransaction-aware on purpose: a flag too many costs one look at tables.
uint32 requested_flags = 0;
bool launcher_requested = false;
DirectAnnouncer announce_directly = nullptr;
// Fixed before the commit, where looking it up may still fail.
DatabaseShared *committing_database = nullptr;

const char *TextAt(uint32 index) { return collected[index].text; }

void Forget() {
    for (OutboxChain &chain : chains) FreeChain(&chain);
    collected_count = stored_count = 0;
    overflown = false;
    requested_flags = 0;
    launcher_requested = false;
    committing_database = nullptr;
    ForgetFolding();
    if (collected_capacity > kKeptCapacity) {
        pfree(collected);
        collected = nullptr;
        collected_capacity = 0;
    }
}

// Sends the announcements as NOTIFYs of this transaction: nobody else would.
void AnnounceDirectly() {
    for (uint32 i = 0; i < collected_count; i++) {
        if (!collected[i].announce) continue;
        const char *text = collected[i].text;
        announce_directly(collected[i].entry, text,
                          text == nullptr ? nullptr : text + std::strlen(text) + 1);
    }
}

// The dispatcher's part: an entry for each stored message.
void FillTasks(bool preparing) {
    uint32 cells;
    if (stored_count == 0) return;
    // Without a dispatcher nobody takes entries out; the one that starts later scans the log anyway,
    // but its scan may come before this commit.
    overflown = overflown || !(preparing || ConsumerRuns(committing_database, Consumer::kDispatcher)) ||
                !TakeCells(stored_count, &cells);
    if (overflown) return;
    for (uint32 i = 0; i < collected_count; i++) {
        OutboxEntry entry = collected[i].entry;
        if (entry.message_id == 0) continue;
        entry.text_bytes = 0;  // nothing to the dispatcher
        AddToChain(&chains[static_cast<int>(Consumer::kDispatcher)], &cells, entry, nullptr);
    }
}

// The announcer's part: false where it is not there or there is no room.
bool FillAnnouncements(bool preparing) {
    uint32 needed = 0;
    uint32 cells;
    for (uint32 i = 0; i < collected_count; i++)
        if (collected[i].announce) needed += CellsFor(collected[i].entry.text_bytes);
    if (needed == 0) return true;
    if (!(preparing || ConsumerRuns(committing_database, Consumer::kAnnouncer))) return false;
    if (!TakeCells(needed, &cells)) return false;
    for (uint32 i = 0; i < collected_count; i++)
        if (collected[i].announce)
            AddToChain(&chains[static_cast<int>(Consumer::kAnnouncer)], &cells, collected[i].entry,
                       collected[i].text);
    return true;
}

void Fill(bool preparing) {
    // Only a prepared transaction's entries can be seen before they are decided.
    TransactionId xid = preparing ? GetTopTransactionId() : InvalidTransactionId;
    uint64 publisher = NextPublisher();
    for (uint32 i = 0; i < collected_count; i++) {
        collected[i].entry.xid = xid;
        collected[i].entry.publisher = publisher;
    }
    FillTasks(preparing);
    if (FillAnnouncements(preparing)) return;
    if (preparing)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                        errmsg("the outbox has no room for the announcements of a prepared transaction"),
                        errhint("Raise herald.outbox_size, or look at herald.status() for what fills it.")));
    AnnounceDirectly();
}

// Without subscribers the dispatcher has nothing to do but to take the entries out, now and then.
bool DispatcherMustKnow() {
    if (committing_database->queues[static_cast<int>(Consumer::kDispatcher)].length > kIdleQueue)
        return true;
    for (uint32 i = 0; i < collected_count; i++)
        if (collected[i].entry.message_id != 0 &&
            HasSubscribers(committing_database, collected[i].entry.channel_id))
            return true;
    return false;
}

// In the commit callback: nothing here can fail. Other snapshots see the transaction's rows already, so a
// consumer that finds its entries finds them, too.
void LinkAndWake() {
    if (committing_database == nullptr) return;
    bool announces = chains[static_cast<int>(Consumer::kAnnouncer)].entries > 0;
    bool tasks = chains[static_cast<int>(Consumer::kDispatcher)].entries > 0;
    uint32 flags = requested_flags | (overflown ? static_cast<uint32>(kFlagRescan) : 0);

    if (flags != 0) RaiseFlag(committing_database, flags);
    for (int i = 0; i < kConsumers; i++)
        LinkChain(committing_database, static_cast<Consumer>(i), &chains[i]);
    if (flags != 0 || (tasks && DispatcherMustKnow()))
        WakeConsumer(committing_database, Consumer::kDispatcher);
    if (announces || (flags & kFlagReloadAnnouncer) != 0)
        WakeConsumer(committing_database, Consumer::kAnnouncer);
    if (!launcher_requested) return;
    // What is there is looked after by its own processes; only "absent" is in doubt. The count comes
    // first, see NoteAbsence.
    pg_atomic_fetch_add_u32(&committing_database->extension_changes, 1);
    uint32 absent = static_cast<uint32>(Presence::kAbsent);
    (void)pg_atomic_compare_exchange_u32(&committing_database->presence, &absent,
                                         static_cast<uint32>(Presence::kUnknown));
    WakeLauncher();
}

void OnTransactionEnd(XactEvent event, void *) {
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
        case XACT_EVENT_PRE_PREPARE:
            if (collected_count == 0 && !overflown && requested_flags == 0 && !launcher_requested)
                break;
            committing_database = ThisDatabase();
            if (collected_count > 0) Fill(event == XACT_EVENT_PRE_PREPARE);
            break;
        case XACT_EVENT_COMMIT:
            LinkAndWake();
            Forget();
            break;
        case XACT_EVENT_PREPARE:
            // Its flags are raised by COMMIT PREPARED, which asks for all.
            for (int i = 0; i < kConsumers && committing_database != nullptr; i++)
                LinkChain(committing_database, static_cast<Consumer>(i), &chains[i]);
            Forget();
            break;
        case XACT_EVENT_ABORT:
            Forget();
            break;
        default:
            break;
    }
}

void OnSubtransactionEnd(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *) {
    if (event == SUBXACT_EVENT_COMMIT_SUB) {
        for (uint32 i = collected_count; i > 0 && collected[i - 1].subtransaction == own; i--)
            collected[i - 1].subtransaction = parent;
    } else if (event == SUBXACT_EVENT_ABORT_SUB) {
        // Subtransactions nest, and their numbers grow: all that came with it or after goes.
        while (collected_count > 0 && collected[collected_count - 1].subtransaction >= own) {
            const Collected &gone = collected[--collected_count];
            if (gone.entry.message_id != 0)
                stored_count--;
            else
                ForgetForFolding(gone.text, gone.entry.text_bytes, collected_count);
        }
    }
}

// Channel and payload, each with its zero byte, in memory of the transaction.
char *CopyText(const char *channel, const char *payload, uint32 *bytes) {
    Size channel_bytes = std::strlen(channel) + 1;
    Size payload_bytes = std::strlen(payload) + 1;
    char *text = static_cast<char *>(
        MemoryContextAlloc(TopTransactionContext, channel_bytes + payload_bytes));
    std::memcpy(text, channel, channel_bytes);
    std::memcpy(text + channel_bytes, payload, payload_bytes);
    *bytes = static_cast<uint32>(channel_bytes + payload_bytes);
    return text;
}

void Add(const OutboxEntry &entry, const char *text, bool announce) {
    if (collected_count == collected_capacity) {
        uint32 capacity = collected_capacity == 0 ? kKeptCapacity : collected_capacity * 2;
        Size size = sizeof(Collected) * capacity;
        collected = static_cast<Collected *>(
            collected == nullptr ? MemoryContextAlloc(TopMemoryContext, size)
                                 : repalloc_huge(collected, size));
        collected_capacity = capacity;
    }
    collected[collected_count++] = {entry, text, GetCurrentSubTransactionId(), announce};
}

}  // namespace

bool CollectPublication(const OutboxEntry &entry, bool announce, const char *channel,
                        const char *payload) {
    if (stored_count >= kMaxStored) {
        overflown = true;
        return false;
    }
    OutboxEntry kept = entry;
    const char *text = nullptr;
    if (channel != nullptr) text = CopyText(channel, payload, &kept.text_bytes);
    Add(kept, text, announce);
    stored_count++;
    return true;
}

bool CollectAnnouncement(const char *channel, const char *payload, int32 counters) {
    OutboxEntry entry = {};
    char *text = CopyText(channel, payload, &entry.text_bytes);
    entry.counters = counters;
    if (!NoteForFolding(text, entry.text_bytes, collected_count, TextAt)) {
        pfree(text);
        return false;
    }
    Add(entry, text, true);
    return true;
}

void RaiseFlagAtCommit(uint32 flags) { requested_flags |= flags; }

void LookForExtensionAtCommit() { launcher_requested = true; }

void InitOutbox(DirectAnnouncer notify) {
    announce_directly = notify;
    RegisterXactCallback(OnTransactionEnd, nullptr);
    RegisterSubXactCallback(OnSubtransactionEnd, nullptr);
}

}  // namespace herald
