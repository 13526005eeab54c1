// See queue.hpp and outbox.hpp. Each database has a linked list of entries per consumer.

#include "outbox/queue.hpp"

#include "registry/lwlocks.hpp"

namespace herald {

namespace {

QueueShared *QueueOf(DatabaseShared *database, Consumer consumer) {
    return &database->outbox.queues[static_cast<int>(consumer)];
}

// Copies entries of a queue with `copy`; under the outbox lock.
template <class Copy>
int Peek(const QueueShared *queue, int skip, uint32 *numbers, int capacity, Copy copy) {
    int count = 0;
    for (uint32 number = queue->head; number != 0 && count < capacity; number = CellAt(number)->next) {
        if (skip > 0) {
            skip--;
            continue;
        }
        copy(count, *CellAt(number));
        numbers[count++] = number;
    }
    return count;
}

// Under the outbox lock.
void Unlink(QueueShared *queue, uint32 previous, uint32 number) {
    if (previous == 0)
        queue->head = CellAt(number)->next;
    else
        CellAt(previous)->next = CellAt(number)->next;
    if (queue->tail == number) queue->tail = previous;
    queue->length--;
}

bool IsOf(const Cell &cell, int32 session) { return cell.is_prepared == 0 && cell.announcement.session == session; }

uint64 *PublisherOf(Cell *cell) {
    return cell->is_prepared != 0 ? &cell->prepared.publisher : &cell->announcement.publisher;
}

// Gives each transaction in a chain a number of its own: new entries have none yet, those that were taken
// back may come from many. Under the outbox lock.
void NumberChain(QueueShared *queue, uint32 first) {
    uint64 before = PG_UINT64_MAX;
    for (uint32 number = first; number != 0; number = CellAt(number)->next) {
        uint64 *publisher = PublisherOf(CellAt(number));
        if (*publisher != before) queue->linked++;
        before = *publisher;
        *publisher = queue->linked;
    }
}

}  // namespace

uint64 LinkChain(DatabaseShared *database, Consumer consumer, OutboxChain *chain) {
    QueueShared *queue = QueueOf(database, consumer);
    if (chain->entries == 0) return 0;
    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    if (consumer == Consumer::kAnnouncer) NumberChain(queue, chain->first);
    const uint64 publisher = queue->linked;
    if (queue->tail == 0)
        queue->head = chain->first;
    else
        CellAt(queue->tail)->next = chain->first;
    queue->tail = chain->last;
    queue->length += chain->entries;
    LWLockRelease(Lock(kOutboxLock));
    *chain = OutboxChain{};
    return publisher;
}

int PeekTasks(DatabaseShared *database, int skip, TaskEntry *entries, uint32 *numbers, int capacity) {
    LWLockAcquire(Lock(kOutboxLock), LW_SHARED);
    int count = Peek(QueueOf(database, Consumer::kDispatcher), skip, numbers, capacity,
                     [&](int i, const Cell &cell) { entries[i] = cell.task; });
    LWLockRelease(Lock(kOutboxLock));
    return count;
}

int PeekAnnouncements(DatabaseShared *database, int skip, AnnouncementEntry *entries, uint32 *numbers, int capacity) {
    QueueShared *queue = QueueOf(database, Consumer::kAnnouncer);
    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    int count = Peek(queue, skip, numbers, capacity, [&](int i, const Cell &cell) { entries[i] = cell.announcement; });
    if (count > 0) queue->in_hand = *PublisherOf(CellAt(numbers[count - 1]));
    LWLockRelease(Lock(kOutboxLock));
    return count;
}

// Without the lock: what hangs on an entry that was peeked is not written before its consumer removes it.
const char *ReadOutboxText(uint32 number, const char **payload) {
    const uint32 bytes = CellAt(number)->announcement.text_bytes;
    char *text = static_cast<char *>(palloc(bytes));
    uint32 piece = CellAt(number)->more;
    for (uint32 done = 0; done < bytes; done += sizeof(Cell::text)) {
        std::memcpy(text + done, CellAt(piece)->text, Min(bytes - done, sizeof(Cell::text)));
        piece = CellAt(piece)->more;
    }
    *payload = text + std::strlen(text) + 1;
    return text;
}

void RemoveFromOutbox(DatabaseShared *database, Consumer consumer, const uint32 *numbers, int count) {
    // The numbers come in queue order, and nobody else removes them: one walk finds them all.
    QueueShared *queue = QueueOf(database, consumer);
    OutboxChain removed{};
    uint32 previous = 0;
    int next = 0;

    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    queue->in_hand = 0;
    for (uint32 number = queue->head; number != 0 && next < count;) {
        const uint32 following = CellAt(number)->next;
        if (number == numbers[next]) {
            Unlink(queue, previous, number);
            Append(&removed, number);
            next++;
        } else {
            previous = number;
        }
        number = following;
    }
    LWLockRelease(Lock(kOutboxLock));
    FreeChain(database, &removed);
}

bool MayBeQueued(DatabaseShared *database, uint64 publisher) {
    const QueueShared *queue = QueueOf(database, Consumer::kAnnouncer);
    if (publisher == 0) return false;
    LWLockAcquire(Lock(kOutboxLock), LW_SHARED);
    const bool queued = queue->head != 0 && *PublisherOf(CellAt(queue->head)) <= publisher;
    LWLockRelease(Lock(kOutboxLock));
    return queued;
}

bool TakeBack(DatabaseShared *database, int32 session, OutboxChain *chain) {
    QueueShared *queue = QueueOf(database, Consumer::kAnnouncer);
    bool free_to_go = true;

    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    for (uint32 number = queue->head; number != 0 && free_to_go; number = CellAt(number)->next) {
        if (*PublisherOf(CellAt(number)) > queue->in_hand) break;
        free_to_go = !IsOf(*CellAt(number), session);
    }
    uint32 previous = 0;
    for (uint32 number = free_to_go ? queue->head : 0; number != 0;) {
        const uint32 following = CellAt(number)->next;
        if (IsOf(*CellAt(number), session)) {
            Unlink(queue, previous, number);
            Append(chain, number);
        } else {
            previous = number;
        }
        number = following;
    }
    LWLockRelease(Lock(kOutboxLock));
    return free_to_go;
}

uint32 OutboxLength(DatabaseShared *database, Consumer consumer) {
    LWLockAcquire(Lock(kOutboxLock), LW_SHARED);
    uint32 length = QueueOf(database, consumer)->length;
    LWLockRelease(Lock(kOutboxLock));
    return length;
}

static void EmptyOutboxOf(DatabaseShared *database) {
    for (QueueShared &queue : database->outbox.queues) {
        LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
        OutboxChain all = {queue.head, queue.tail, queue.length};
        queue = QueueShared{};
        LWLockRelease(Lock(kOutboxLock));
        FreeChain(database, &all);
    }
}

void ForgetDatabase(Oid database) {
    DatabaseShared *entry = FindDatabase(database);
    if (entry == nullptr) return;
    EmptyOutboxOf(entry);
    LWLockAcquire(Lock(kRegistryLock), LW_EXCLUSIVE);
    entry->database = InvalidOid;
    LWLockRelease(Lock(kRegistryLock));
}

}  // namespace herald
