// See outbox.hpp. The cells are one array with a free list; each database has a linked queue per
// consumer, all under one lock that is held for as long as it takes to link, copy or free a few cells,
// never over anything that can wait. An entry's text lies in further cells that hang on it.

#include "outbox/outbox.hpp"

#include "outbox/locks.hpp"
#include "outbox/queue.hpp"
#include "settings.hpp"

extern "C" {
#include "storage/shmem.h"
}

namespace herald {

namespace {

struct Cell {
    union {
        OutboxEntry entry;
        char text[sizeof(OutboxEntry)];
    };
    uint32 next;  // of the queue, the chain or the free list; cell number + 1, 0: none
    uint32 more;  // where the entry's text goes on
};

struct OutboxShared {
    uint32 capacity;             // immutable
    uint32 free;                 // head of the free list; guarded by the outbox lock
    uint32 used;                 // guarded by the outbox lock
    pg_atomic_uint64 publishers; // transactions that came here so far
    Cell cells[FLEXIBLE_ARRAY_MEMBER];
};

OutboxShared *outbox = nullptr;

uint32 Capacity() {
    return static_cast<uint32>(static_cast<Size>(settings::outbox_size) * 1024 / sizeof(Cell));
}

Cell *CellAt(uint32 number) { return &outbox->cells[number - 1]; }

// Under the outbox lock.
void FreeCells(uint32 number) {
    while (number != 0) {
        Cell *cell = CellAt(number);
        uint32 more = cell->more;
        cell->next = outbox->free;
        cell->more = 0;
        outbox->free = number;
        outbox->used--;
        number = more;
    }
}

}  // namespace

uint32 CellsFor(uint32 text_bytes) {
    return 1 + (text_bytes + sizeof(Cell::text) - 1) / static_cast<uint32>(sizeof(Cell::text));
}

uint64 NextPublisher() { return pg_atomic_add_fetch_u64(&outbox->publishers, 1); }

bool TakeCells(uint32 cells, uint32 *free_list) {
    *free_list = 0;
    if (cells == 0) return true;
    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    bool fits = outbox->capacity - outbox->used >= cells;
    if (fits) {
        *free_list = outbox->free;
        uint32 last = outbox->free;
        for (uint32 i = 1; i < cells; i++) last = CellAt(last)->next;
        outbox->free = CellAt(last)->next;
        CellAt(last)->next = 0;
        outbox->used += cells;
    }
    LWLockRelease(Lock(kOutboxLock));
    return fits;
}

void AddToChain(OutboxChain *chain, uint32 *free_list, const OutboxEntry &entry, const char *text) {
    uint32 number = *free_list;
    Cell *cell = CellAt(number);
    *free_list = cell->next;
    cell->entry = entry;
    cell->next = 0;
    cell->more = 0;
    uint32 *more = &cell->more;
    for (uint32 done = 0; done < entry.text_bytes; done += sizeof(Cell::text)) {
        uint32 piece = *free_list;
        Cell *holder = CellAt(piece);
        *free_list = holder->next;
        std::memcpy(holder->text, text + done, Min(entry.text_bytes - done, sizeof(Cell::text)));
        holder->next = 0;
        holder->more = 0;
        *more = piece;
        more = &holder->more;
    }
    if (chain->last == 0)
        chain->first = number;
    else
        CellAt(chain->last)->next = number;
    chain->last = number;
    chain->entries++;
}

void LinkChain(DatabaseShared *database, Consumer consumer, OutboxChain *chain) {
    if (chain->entries == 0) return;
    QueueShared *queue = &database->queues[static_cast<int>(consumer)];
    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    if (queue->tail == 0)
        queue->head = chain->first;
    else
        CellAt(queue->tail)->next = chain->first;
    queue->tail = chain->last;
    queue->length += chain->entries;
    LWLockRelease(Lock(kOutboxLock));
    *chain = OutboxChain{};
}

void FreeChain(OutboxChain *chain) {
    if (chain->entries == 0) return;
    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    for (uint32 number = chain->first; number != 0;) {
        uint32 following = CellAt(number)->next;
        FreeCells(number);
        number = following;
    }
    LWLockRelease(Lock(kOutboxLock));
    *chain = OutboxChain{};
}

int PeekOutbox(DatabaseShared *database, Consumer consumer, int skip, OutboxEntry *entries,
               uint32 *numbers, int capacity) {
    int count = 0;
    const QueueShared *queue = &database->queues[static_cast<int>(consumer)];

    LWLockAcquire(Lock(kOutboxLock), LW_SHARED);
    for (uint32 number = queue->head; number != 0 && count < capacity;
         number = CellAt(number)->next) {
        if (skip > 0) {
            skip--;
            continue;
        }
        entries[count] = CellAt(number)->entry;
        numbers[count++] = number;
    }
    LWLockRelease(Lock(kOutboxLock));
    return count;
}

// Without the lock: what hangs on a linked entry is not written again before its consumer removes it.
const char *ReadOutboxText(uint32 number, const char **payload) {
    uint32 bytes = CellAt(number)->entry.text_bytes;
    char *text = static_cast<char *>(palloc(bytes));
    uint32 piece = CellAt(number)->more;
    for (uint32 done = 0; done < bytes; done += sizeof(Cell::text)) {
        std::memcpy(text + done, CellAt(piece)->text, Min(bytes - done, sizeof(Cell::text)));
        piece = CellAt(piece)->more;
    }
    *payload = text + std::strlen(text) + 1;
    return text;
}

void RemoveFromOutbox(DatabaseShared *database, Consumer consumer, const uint32 *numbers,
                      int count) {
    // The numbers come in queue order, and only this consumer removes: one walk finds them all.
    QueueShared *queue = &database->queues[static_cast<int>(consumer)];
    uint32 previous = 0;
    int next = 0;
    if (count == 0) return;

    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    for (uint32 number = queue->head; number != 0 && next < count;) {
        uint32 following = CellAt(number)->next;
        if (number == numbers[next]) {
            if (previous == 0)
                queue->head = following;
            else
                CellAt(previous)->next = following;
            if (queue->tail == number) queue->tail = previous;
            queue->length--;
            FreeCells(number);
            next++;
        } else {
            previous = number;
        }
        number = following;
    }
    LWLockRelease(Lock(kOutboxLock));
}

uint32 OutboxLength(DatabaseShared *database, Consumer consumer) {
    LWLockAcquire(Lock(kOutboxLock), LW_SHARED);
    uint32 length = database->queues[static_cast<int>(consumer)].length;
    LWLockRelease(Lock(kOutboxLock));
    return length;
}

double OutboxUsage() {
    LWLockAcquire(Lock(kOutboxLock), LW_SHARED);
    double usage = outbox->capacity == 0 ? 1.0 : static_cast<double>(outbox->used) / outbox->capacity;
    LWLockRelease(Lock(kOutboxLock));
    return usage;
}

void EmptyOutboxOf(DatabaseShared *database) {
    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    for (QueueShared &queue : database->queues) {
        for (uint32 number = queue.head; number != 0;) {
            uint32 following = CellAt(number)->next;
            FreeCells(number);
            number = following;
        }
        queue = QueueShared{};
    }
    LWLockRelease(Lock(kOutboxLock));
}

void ForgetDatabase(Oid database) {
    DatabaseShared *entry = FindDatabase(database);
    if (entry == nullptr) return;
    EmptyOutboxOf(entry);
    LWLockAcquire(Lock(kRegistryLock), LW_EXCLUSIVE);
    entry->database = InvalidOid;
    LWLockRelease(Lock(kRegistryLock));
}

Size OutboxMemory() { return MAXALIGN(offsetof(OutboxShared, cells) + Capacity() * sizeof(Cell)); }

void InitOutboxMemory() {
    bool found;
    outbox = static_cast<OutboxShared *>(ShmemInitStruct("pg_herald outbox", OutboxMemory(), &found));
    if (found) return;
    outbox->capacity = Capacity();
    outbox->used = 0;
    pg_atomic_init_u64(&outbox->publishers, 0);
    for (uint32 i = 0; i < outbox->capacity; i++) {
        outbox->cells[i].next = i + 1 < outbox->capacity ? i + 2 : 0;
        outbox->cells[i].more = 0;
    }
    outbox->free = outbox->capacity > 0 ? 1 : 0;
}

}  // namespace herald
