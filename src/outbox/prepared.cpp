// See prepared.hpp.

#include "outbox/prepared.hpp"

#include "registry/lwlocks.hpp"
#include "outbox/queue.hpp"
#include "pg/extension.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "miscadmin.h"
}

namespace herald {

namespace {

constexpr uint32 kEverything =
    kFlagRescan | kFlagReload | kFlagParked | kFlagReloadAnnouncer | kFlagDeadLetters | kFlagSubscribed;

}  // namespace

void Enclose(OutboxChain *chain, uint32 *free_list, Oid role, TransactionId xid, uint32 flags) {
    OutboxChain outer = {};
    Cell *cell = AddToChain(&outer, free_list, role);
    cell->prepared = {0, xid, flags, chain->last, chain->entries};
    cell->is_prepared = 1;
    cell->more = chain->first;
    *chain = outer;
}

TransactionId PreparedAt(uint32 number, uint32 *flags) {
    const Cell *cell = CellAt(number);
    if (cell->is_prepared == 0) return InvalidTransactionId;
    *flags = cell->prepared.flags;
    return cell->prepared.xid;
}

void EndPrepared(DatabaseShared *database, Consumer consumer, uint32 number, bool committed) {
    QueueShared *queue = &database->outbox.queues[static_cast<int>(consumer)];
    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    // It was peeked a moment ago, and is not far from the head.
    uint32 previous = 0;
    for (uint32 other = queue->head; other != number; other = CellAt(other)->next) previous = other;
    Cell *cell = CellAt(number);
    const PreparedEntry prepared = cell->prepared;
    const uint32 following = cell->next;
    uint32 first = following;
    uint32 last = previous;
    if (committed && prepared.entries > 0) {
        first = cell->more;
        last = prepared.last;
        CellAt(last)->next = following;
        if (consumer == Consumer::kAnnouncer)
            for (uint32 entry = first; entry != following; entry = CellAt(entry)->next) {
                CellAt(entry)->announcement.publisher = prepared.publisher;
                CellAt(entry)->announcement.session = 0;
            }
        queue->length += prepared.entries;
        cell->more = 0;
    }
    if (previous == 0)
        queue->head = first;
    else
        CellAt(previous)->next = first;
    if (queue->tail == number) queue->tail = last;
    queue->length--;
    FreeEntry(database, number);
    LWLockRelease(Lock(kOutboxLock));
    if ((prepared.flags & kFlagDeadLetters) != 0) {
        if (committed) database->dead_letters.Forget();
        pg_atomic_fetch_sub_u32(&database->outbox.dead_prepared, 1);
    }
}

bool ListPrepared(DatabaseShared *database) {
    uint32 unlisted = pg_atomic_read_u32(&database->outbox.unlisted);
    if (unlisted == 0) return false;
    OutboxChain chain = {};
    pg::SpiBegin();
    const uint64 count = pg::SpiRun(
        "SELECT p.transaction::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_prepared_xact() AS p"
        " WHERE p.dbid OPERATOR(pg_catalog.=) $1",
        std::array{pg::ObjectId(MyDatabaseId)});
    uint32 cells;
    const bool fits = TakeCells(database, GetSessionUserId(), static_cast<uint32>(count), &cells);
    for (uint64 row = 0; fits && row < count; row++) {
        OutboxChain one = {};
        Enclose(&one, &cells, GetSessionUserId(), static_cast<TransactionId>(pg::SpiInt8(row, 1)), kEverything);
        if (chain.last == 0)
            chain.first = one.first;
        else
            CellAt(chain.last)->next = one.first;
        chain.last = one.first;
        chain.entries++;
    }
    pg::SpiEnd();
    if (!fits) return false;
    pg_atomic_fetch_add_u32(&database->outbox.dead_prepared, static_cast<int32>(count));
    (void)LinkChain(database, Consumer::kDispatcher, &chain);
    // Not where another one has found no room meanwhile.
    (void)pg_atomic_compare_exchange_u32(&database->outbox.unlisted, &unlisted, 0);
    // Transactions that ended before they could be listed are found in the tables.
    RaiseFlag(database, kEverything & ~kFlagDeadLetters);
    WakeConsumer(database, Consumer::kAnnouncer);
    return true;
}

void AfterPreparedEnd() {
    DatabaseShared *database = FindDatabase(MyDatabaseId);
    if (database == nullptr) return;
    const bool unlisted = pg_atomic_read_u32(&database->outbox.unlisted) != 0;
    if (unlisted || pg_atomic_read_u32(&database->outbox.dead_prepared) != 0) database->dead_letters.Forget();
    if (unlisted) RaiseFlag(database, kEverything & ~kFlagDeadLetters);
    // If no dispatcher runs, one is started to see what became of the transaction.
    if (OutboxLength(database, Consumer::kDispatcher) > 0) RaiseFlag(database, kFlagSubscribed);
    for (int i = 0; i < kConsumers; i++) WakeConsumer(database, static_cast<Consumer>(i));
    // The launcher starts an announcer for what was left without one.
    if (!Announces(database)) WakeLauncher();
    // A dispatcher that looked before it was committed has found no extension.
    if (pg_atomic_read_u32(&database->extension.presence) == static_cast<uint32>(Presence::kAbsent) &&
        pg::ExtensionExists()) {
        RaiseFlagAtCommit(kFlagReload | kFlagReloadAnnouncer);
        LookForExtensionAtCommit();
    }
}

}  // namespace herald
