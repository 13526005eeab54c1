// The publisher's side of the outbox: what the current transaction has published so far, and what
// happens to it at the ends of savepoints, commits and prepares.
//
// The list lives in TopMemoryContext and is kept from one transaction to the next, so that the usual
// transaction with one publication allocates nothing.

#include "outbox/outbox.hpp"
#include "outbox/queue.hpp"

extern "C" {
#include "access/xact.h"
#include "commands/async.h"
}

namespace herald {

namespace {

// A transaction with more publications than this asks for a scan of the log instead of filling the
// outbox.
constexpr uint32 kMaxCollected = 4096;
constexpr uint32 kKeptCapacity = 64;
// Entries of channels without subscribers that wait until the dispatcher is woken to drop them.
constexpr uint32 kIdleQueue = 1024;

struct Collected {
    OutboxEntry entry;
    SubTransactionId subtransaction;
    bool announce;
};

struct FlagRequest {
    uint32 flags;
    bool launcher;
};

Collected *collected = nullptr;
uint32 collected_count = 0;
uint32 collected_capacity = 0;
bool overflown = false;     // more than kMaxCollected, or no room: scan at commit
bool appended = false;      // entries of this transaction stand in the outbox
bool announces = false;     // some of them for the announcer
// Not subtransaction-aware on purpose: a flag too many costs one look at tables.
FlagRequest requested = {0, false};
void (*announce_directly)(const OutboxEntry &) = nullptr;
// Fixed before the commit, where looking it up may still fail.
DatabaseShared *committing_database = nullptr;

void Forget() {
    collected_count = 0;
    overflown = false;
    appended = false;
    announces = false;
    requested = {0, false};
    committing_database = nullptr;
    if (collected_capacity > kKeptCapacity) {
        pfree(collected);
        collected = nullptr;
        collected_capacity = 0;
    }
}

// Sends the announcements as NOTIFYs of this transaction: nobody else would.
void AnnounceDirectly() {
    for (uint32 i = 0; i < collected_count; i++)
        if (collected[i].announce) announce_directly(collected[i].entry);
}

void Append(bool preparing) {
    TransactionId xid = GetTopTransactionIdIfAny();
    OutboxEntry *entries =
        static_cast<OutboxEntry *>(palloc(sizeof(OutboxEntry) * Max(collected_count, 1u)));
    uint32 announced = 0;

    for (uint32 i = 0; i < collected_count; i++) collected[i].entry.xid = xid;
    // Without a dispatcher nobody takes entries out; the one that starts later scans the log anyway,
    // but its scan may come before this commit.
    overflown = overflown || !(preparing || ConsumerRuns(committing_database, Consumer::kDispatcher));
    if (!overflown) {
        for (uint32 i = 0; i < collected_count; i++) entries[i] = collected[i].entry;
        overflown = !AppendToOutbox(committing_database, Consumer::kDispatcher, entries,
                                    collected_count);
    }
    for (uint32 i = 0; i < collected_count; i++)
        if (collected[i].announce) entries[announced++] = collected[i].entry;
    if (announced > 0 &&
        (!(preparing || ConsumerRuns(committing_database, Consumer::kAnnouncer)) ||
         !AppendToOutbox(committing_database, Consumer::kAnnouncer, entries, announced))) {
        if (preparing)
            ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                            errmsg("the outbox has no room for the announcements of a prepared transaction"),
                            errhint("Raise herald.outbox_size, or look at herald.status() for what fills it.")));
        AnnounceDirectly();
        announced = 0;
    }
    announces = announced > 0;
    pfree(entries);
    appended = true;
}

// Without subscribers the dispatcher has nothing to do but to take the entries out, now and then.
bool DispatcherMustKnow() {
    if (committing_database->queues[static_cast<int>(Consumer::kDispatcher)].length > kIdleQueue)
        return true;
    for (uint32 i = 0; i < collected_count; i++)
        if (HasSubscribers(committing_database, collected[i].entry.channel_id)) return true;
    return false;
}

// In the commit callback: nothing here can fail.
void WakeAfterCommit() {
    if (committing_database != nullptr) {
        uint32 flags = requested.flags;
        if (overflown) flags |= kFlagRescan;
        if (flags != 0) RaiseFlag(committing_database, flags);
        if (flags != 0 || (appended && DispatcherMustKnow()))
            WakeConsumer(committing_database, Consumer::kDispatcher);
        if (announces || (flags & kFlagReloadAnnouncer) != 0)
            WakeConsumer(committing_database, Consumer::kAnnouncer);
    }
    if (requested.launcher) {
        // What is there is looked after by its own processes; only "absent" is in doubt. The count
        // comes first, see NoteAbsence.
        pg_atomic_fetch_add_u32(&committing_database->extension_changes, 1);
        uint32 absent = static_cast<uint32>(Presence::kAbsent);
        (void)pg_atomic_compare_exchange_u32(&committing_database->presence, &absent,
                                             static_cast<uint32>(Presence::kUnknown));
        WakeLauncher();
    }
}

void OnTransactionEnd(XactEvent event, void *) {
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
        case XACT_EVENT_PRE_PREPARE:
            if (collected_count > 0 || overflown || requested.flags != 0 || requested.launcher) {
                committing_database = ThisDatabase();
                if (collected_count > 0) Append(event == XACT_EVENT_PRE_PREPARE);
            }
            break;
        case XACT_EVENT_COMMIT:
        case XACT_EVENT_PREPARE:
            // A prepared transaction's flags are raised by its COMMIT PREPARED, which asks for all.
            if (event == XACT_EVENT_COMMIT) WakeAfterCommit();
            Forget();
            break;
        case XACT_EVENT_ABORT:
            // What was appended is dropped by the consumers: its transaction id did not commit.
            if (appended && committing_database != nullptr)
                WakeConsumer(committing_database, Consumer::kDispatcher);
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
        while (collected_count > 0 && collected[collected_count - 1].subtransaction >= own)
            collected_count--;
    }
}

}  // namespace

bool CollectPublication(const OutboxEntry &entry, bool announce) {
    if (collected_count >= kMaxCollected) {
        overflown = true;
        return false;
    }
    if (collected_count == collected_capacity) {
        uint32 capacity = collected_capacity == 0 ? kKeptCapacity : collected_capacity * 2;
        Size size = sizeof(Collected) * capacity;
        collected = static_cast<Collected *>(
            collected == nullptr ? MemoryContextAlloc(TopMemoryContext, size)
                                 : repalloc(collected, size));
        collected_capacity = capacity;
    }
    collected[collected_count++] = {entry, GetCurrentSubTransactionId(), announce};
    return true;
}

void RaiseFlagAtCommit(uint32 flags) { requested.flags |= flags; }

void LookForExtensionAtCommit() { requested.launcher = true; }

void InitOutbox(void (*notify)(const OutboxEntry &)) {
    announce_directly = notify;
    RegisterXactCallback(OnTransactionEnd, nullptr);
    RegisterSubXactCallback(OnSubtransactionEnd, nullptr);
}

}  // namespace herald
