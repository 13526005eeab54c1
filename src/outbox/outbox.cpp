// See outbox.hpp. The entries are one array with a free list; each database has a linked queue per
// consumer, all under one lock that is held for as long as it takes to link or copy a few entries,
// never over anything that can wait.

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
    OutboxEntry entry;
    uint32 next;  // cell number + 1 in its queue or in the free list; guarded by the outbox lock
};

struct OutboxShared {
    uint32 capacity;  // immutable
    uint32 free;      // head of the free list, cell number + 1; guarded by the outbox lock
    uint32 used;      // guarded by the outbox lock
    Cell cells[FLEXIBLE_ARRAY_MEMBER];
};

OutboxShared *outbox = nullptr;

uint32 Capacity() {
    return static_cast<uint32>(static_cast<Size>(settings::outbox_size) * 1024 / sizeof(Cell));
}

}  // namespace

bool AppendToOutbox(DatabaseShared *database, Consumer consumer, const OutboxEntry *entries,
                    uint32 count) {
    bool fits;
    QueueShared *queue = &database->queues[static_cast<int>(consumer)];

    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    fits = outbox->capacity - outbox->used >= count;
    for (uint32 i = 0; fits && i < count; i++) {
        uint32 number = outbox->free;
        Cell *cell = &outbox->cells[number - 1];
        outbox->free = cell->next;
        cell->entry = entries[i];
        cell->next = 0;
        if (queue->tail == 0)
            queue->head = number;
        else
            outbox->cells[queue->tail - 1].next = number;
        queue->tail = number;
        queue->length++;
        outbox->used++;
    }
    LWLockRelease(Lock(kOutboxLock));
    return fits;
}

int PeekOutbox(DatabaseShared *database, Consumer consumer, int skip, OutboxEntry *entries,
               uint32 *numbers, int capacity) {
    int count = 0;
    const QueueShared *queue = &database->queues[static_cast<int>(consumer)];

    LWLockAcquire(Lock(kOutboxLock), LW_SHARED);
    for (uint32 number = queue->head; number != 0 && count < capacity;
         number = outbox->cells[number - 1].next) {
        if (skip > 0) {
            skip--;
            continue;
        }
        entries[count] = outbox->cells[number - 1].entry;
        numbers[count++] = number;
    }
    LWLockRelease(Lock(kOutboxLock));
    return count;
}

void RemoveFromOutbox(DatabaseShared *database, Consumer consumer, const uint32 *numbers,
                      int count) {
    // The numbers come in queue order, and only this consumer removes: one walk finds them all.
    QueueShared *queue = &database->queues[static_cast<int>(consumer)];
    uint32 previous = 0;
    int next = 0;

    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    for (uint32 number = queue->head; number != 0 && next < count;) {
        Cell *cell = &outbox->cells[number - 1];
        uint32 following = cell->next;
        if (number == numbers[next]) {
            if (previous == 0)
                queue->head = following;
            else
                outbox->cells[previous - 1].next = following;
            if (queue->tail == number) queue->tail = previous;
            queue->length--;
            cell->next = outbox->free;
            outbox->free = number;
            outbox->used--;
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
            uint32 following = outbox->cells[number - 1].next;
            outbox->cells[number - 1].next = outbox->free;
            outbox->free = number;
            outbox->used--;
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
    for (uint32 i = 0; i < outbox->capacity; i++)
        outbox->cells[i].next = i + 1 < outbox->capacity ? i + 2 : 0;
    outbox->free = outbox->capacity > 0 ? 1 : 0;
}

}  // namespace herald
