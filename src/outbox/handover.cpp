// The ends of a publishing transaction: what it collected is put into the outbox before the commit and
// linked to the consumers' queues after it.
//
// Announcements that cannot be left to the announcer become NOTIFYs of the transaction itself. So that they
// do not overtake what the same session published before, the session takes those back from the queue
// and sends them first.

#include "outbox/folding.hpp"
#include "outbox/prepared.hpp"
#include "outbox/publications.hpp"
#include "outbox/queue.hpp"

extern "C" {
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
}

#include <algorithm>

namespace herald {

namespace {

// Entries of channels without subscribers that wait until the dispatcher is woken to drop them.
constexpr uint32 kIdleQueue = 1024;
// How long a session waits for the announcer to let go of its earlier announcements, in milliseconds.
// Then it may be stuck, and the order is worth less than the commit.
constexpr int kLongestWait = 1000;

// Filled before the commit, linked in the commit callback; nobody else sees them until then.
OutboxChain chains[kConsumers];
// Announcements of this session that were queued, and are sent by this transaction.
OutboxChain taken_back;
// The last transaction of this session whose announcements were queued; 0: none.
uint64 last_queued = 0;
bool scan_needed = false;
// Not subtransaction-aware on purpose: a flag too many costs one look at tables.
uint32 requested_flags = 0;
uint32 flags_if_prepared = 0;
// A prepared transaction for whose part of the dispatcher there was no room at all.
bool unlisted = false;
bool launcher_requested = false;
DirectAnnouncer announce_directly = nullptr;
// Fixed before the commit, where looking it up may still fail.
DatabaseShared *committing_database = nullptr;

OutboxChain *ChainOf(Consumer consumer) { return &chains[static_cast<int>(consumer)]; }

void Forget() {
    for (OutboxChain &chain : chains) FreeChain(committing_database, &chain);
    scan_needed = false;
    requested_flags = flags_if_prepared = 0;
    unlisted = false;
    launcher_requested = false;
    committing_database = nullptr;
    ForgetPublications();
}

// The dispatcher's part: an entry for each stored message.
void FillTasks(bool preparing) {
    const Publications &collected = CollectedPublications();
    uint32 cells;
    if (collected.tasks.count == 0 && !collected.too_many_tasks) return;
    // Without a dispatcher nobody takes entries out; the one that starts later scans the log anyway,
    // but its scan may come before this commit.
    scan_needed =
        collected.too_many_tasks || !(preparing || ConsumerRuns(committing_database, Consumer::kDispatcher)) ||
        !TakeCells(committing_database, GetSessionUserId(), static_cast<uint32>(collected.tasks.count), &cells);
    if (scan_needed) return;
    for (const CollectedTask &task : collected.tasks) {
        Cell *cell = AddToChain(ChainOf(Consumer::kDispatcher), &cells, GetSessionUserId());
        cell->task = task.entry;
    }
}

// All that a transaction that is prepared has for the dispatcher, as one.
void EncloseTasks(TransactionId xid) {
    const uint32 flags = requested_flags | flags_if_prepared | (scan_needed ? static_cast<uint32>(kFlagRescan) : 0);
    OutboxChain *chain = ChainOf(Consumer::kDispatcher);
    uint32 cell;
    if (flags == 0 && chain->entries == 0) return;
    unlisted = !TakeCells(committing_database, GetSessionUserId(), 1, &cell);
    if (unlisted)
        FreeChain(committing_database, chain);
    else
        Enclose(chain, &cell, GetSessionUserId(), xid, flags);
}

// The announcer's part: false where it is not there or there is no room.
bool FillAnnouncements(TransactionId xid) {
    const Publications &collected = CollectedPublications();
    uint32 needed = 0;
    uint32 cells;
    for (const CollectedAnnouncement &announcement : collected.announcements)
        needed += CellsFor(announcement.entry.text_bytes);
    if (needed == 0) return true;
    const bool preparing = TransactionIdIsValid(xid);
    if (!(preparing || Announces(committing_database))) return false;
    if (!TakeCells(committing_database, GetSessionUserId(), needed + (preparing ? 1 : 0), &cells)) return false;
    OutboxChain *chain = ChainOf(Consumer::kAnnouncer);
    for (const CollectedAnnouncement &announcement : collected.announcements) {
        Cell *cell = AddToChain(chain, &cells, GetSessionUserId());
        cell->announcement = announcement.entry;
        AddText(chain, &cells, announcement.text, announcement.entry.text_bytes);
    }
    if (preparing) Enclose(chain, &cells, GetSessionUserId(), xid, 0);
    return true;
}

// Returns to the queue what was taken back and is not sent.
void PutBack() {
    if (taken_back.entries == 0) return;
    last_queued = LinkChain(committing_database, Consumer::kAnnouncer, &taken_back);
    WakeConsumer(committing_database, Consumer::kAnnouncer);
    if (!Announces(committing_database)) WakeLauncher();
}

// True where NOTIFY would fold equal messages of several transactions into one; by their hashes.
bool WouldFold() {
    const Publications &collected = CollectedPublications();
    const Size count = taken_back.entries + static_cast<Size>(collected.announcements.count);
    uint64 *hashes =
        static_cast<uint64 *>(MemoryContextAllocHuge(TopTransactionContext, sizeof(uint64) * Max(count, 1)));
    uint64 *end = hashes;
    for (uint32 number = taken_back.first; number != 0; number = CellAt(number)->next) {
        const char *payload;
        const char *text = ReadOutboxText(number, &payload);
        *end++ = HashOfText(text, CellAt(number)->announcement.text_bytes);
        pfree(const_cast<char *>(text));
    }
    for (const CollectedAnnouncement &announcement : collected.announcements)
        *end++ = HashOfText(announcement.text, announcement.entry.text_bytes);
    std::sort(hashes, end);
    const bool folds = std::adjacent_find(hashes, end) != end;
    pfree(hashes);
    return folds;
}

void Pause() {
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

// What this session published before and the announcer has not announced yet. Where it can't be sent
// together with the new ones, the announcer gets a moment to do so.
void TakeBackEarlier() {
    bool together = true;
    for (int waited = 0; waited < kLongestWait && MayBeQueued(committing_database, last_queued); waited++) {
        if (together && TakeBack(committing_database, MyProcPid, &taken_back)) {
            together = !WouldFold();
            if (together) break;
            PutBack();
        }
        Pause();
    }
    last_queued = 0;
}

void AnnounceDirectly(const AnnouncementEntry &entry, const char *text) {
    announce_directly(entry, text, text + std::strlen(text) + 1);
}

// NOTIFYs of this transaction.
void SendDirectly() {
    const Publications &collected = CollectedPublications();
    TakeBackEarlier();
    for (uint32 number = taken_back.first; number != 0; number = CellAt(number)->next) {
        const char *payload;
        AnnounceDirectly(CellAt(number)->announcement, ReadOutboxText(number, &payload));
    }
    for (const CollectedAnnouncement &announcement : collected.announcements)
        AnnounceDirectly(announcement.entry, announcement.text);
}

void Fill(bool preparing) {
    // Only a prepared transaction's entries can be seen before they are decided.
    TransactionId xid = preparing ? GetTopTransactionId() : InvalidTransactionId;
    FillTasks(preparing);
    if (preparing) EncloseTasks(xid);
    if (FillAnnouncements(xid)) return;
    if (preparing)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                        errmsg("the outbox has no room for the announcements of a prepared transaction"),
                        errhint("Raise herald.outbox_size, or look at herald.status() for what fills it.")));
    SendDirectly();
}

// Without subscribers the dispatcher has nothing to do but to take the entries out, now and then.
bool DispatcherMustKnow() {
    const Publications &collected = CollectedPublications();
    if (committing_database->outbox.queues[static_cast<int>(Consumer::kDispatcher)].length > kIdleQueue) return true;
    for (const CollectedTask &task : collected.tasks)
        if (HasSubscribers(committing_database, task.entry.channel_id)) return true;
    return false;
}

// In the commit callback: nothing here can fail. Other snapshots see the transaction's rows already, so a
// consumer that finds its entries finds them, too.
void LinkAndWake() {
    if (committing_database == nullptr) return;
    FreeChain(committing_database, &taken_back);
    const bool announces = ChainOf(Consumer::kAnnouncer)->entries > 0;
    const bool tasks = ChainOf(Consumer::kDispatcher)->entries > 0;
    const uint32 flags = requested_flags | (scan_needed ? static_cast<uint32>(kFlagRescan) : 0);

    // If no dispatcher runs, the database may wait for places.
    const bool first_to_wait = scan_needed && IsWanted(committing_database, Consumer::kDispatcher) &&
                               (pg_atomic_read_u32(&committing_database->processes.flags) & kFlagRescan) == 0;

    if (flags != 0) RaiseFlag(committing_database, flags);
    (void)LinkChain(committing_database, Consumer::kDispatcher, ChainOf(Consumer::kDispatcher));
    if (announces) last_queued = LinkChain(committing_database, Consumer::kAnnouncer, ChainOf(Consumer::kAnnouncer));
    if (flags != 0 || (tasks && DispatcherMustKnow())) WakeConsumer(committing_database, Consumer::kDispatcher);
    if (announces || (flags & kFlagReloadAnnouncer) != 0) WakeConsumer(committing_database, Consumer::kAnnouncer);
    // It left meanwhile: the launcher sees to what it left behind.
    if (announces && !Announces(committing_database)) WakeLauncher();
    // Also where nothing was left to it this time: the log is to be rotated, and the next one will come.
    if (!IsEmpty(CollectedPublications())) WantConsumer(committing_database, Consumer::kAnnouncer);
    if (first_to_wait) WakeLauncher();
    if (launcher_requested) LookForExtension(committing_database);
}

bool HasNothing() { return IsEmpty(CollectedPublications()) && requested_flags == 0 && !launcher_requested; }

void FillToCommit() {
    if (HasNothing()) return;
    committing_database = ThisDatabase();
    Fill(false);
}

void FillToPrepare() {
    if (HasNothing() && flags_if_prepared == 0) return;
    committing_database = ThisDatabase();
    Fill(true);
}

void HandOver() {
    LinkAndWake();
    Forget();
}

void HandOverPrepared() {
    if ((flags_if_prepared & kFlagDeadLetters) != 0 && committing_database != nullptr && !unlisted)
        pg_atomic_fetch_add_u32(&committing_database->outbox.dead_prepared, 1);
    if (unlisted) pg_atomic_fetch_add_u32(&committing_database->outbox.unlisted, 1);
    if (unlisted) WakeConsumer(committing_database, Consumer::kDispatcher);
    for (int i = 0; i < kConsumers && committing_database != nullptr; i++)
        (void)LinkChain(committing_database, static_cast<Consumer>(i), &chains[i]);
    Forget();
}

void GiveUp() {
    PutBack();
    Forget();
}

}  // namespace

const pg::TransactionPart kOutboxPart = {.before_commit = FillToCommit,
                                         .before_prepare = FillToPrepare,
                                         .committed = HandOver,
                                         .prepared = HandOverPrepared,
                                         .aborted = GiveUp,
                                         .sub_committed = KeepPublications,
                                         .sub_aborted = DropPublications};

bool BringsTasks(int32 channel_id) {
    const Publications &collected = CollectedPublications();
    if (collected.too_many_tasks || (requested_flags & kFlagParked) != 0) return true;
    for (const CollectedTask &task : collected.tasks)
        if (task.entry.channel_id == channel_id) return true;
    return false;
}

void RaiseFlagAtCommit(uint32 flags) { requested_flags |= flags; }

void RaiseFlagIfPrepared(uint32 flags) { flags_if_prepared |= flags; }

void LookForExtensionAtCommit() { launcher_requested = true; }

void InitOutbox(DirectAnnouncer notify) { announce_directly = notify; }

}  // namespace herald
