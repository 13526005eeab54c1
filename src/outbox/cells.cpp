// See cells.hpp.

#include "outbox/cells.hpp"

#include "registry/lwlocks.hpp"
#include "settings.hpp"

extern "C" {
#include "common/hashfn.h"
#include "storage/shmem.h"
}

namespace herald {

namespace {

// Roles are told apart by a hash: two of them may have one share between them.
constexpr uint32 kShares = 1024;
constexpr uint64 kRoleFactor = 3;
constexpr uint64 kDatabaseFactor = 7;
// So many cells are taken or freed while the lock is held once, however large a transaction is. (An entry
// is freed as a whole, which is less than 200.)
constexpr uint32 kCellsPerHold = 1024;

struct CellsShared {
    uint32 capacity;  // immutable
    // Guarded by the outbox lock.
    uint32 free;  // head of the free list
    uint32 used;
    uint64 refusals;
    uint32 shares[kShares];  // cells in use
    Cell cells[FLEXIBLE_ARRAY_MEMBER];
};

CellsShared *memory = nullptr;

uint32 Capacity() { return static_cast<uint32>(static_cast<Size>(settings::outbox_size) * 1024 / sizeof(Cell)); }

uint32 ShareOf(Oid role) { return hash_bytes_uint32(role) % kShares; }

bool Fits(const DatabaseShared *database, uint32 share, uint32 cells) {
    if (memory->capacity - memory->used < cells) return false;
    const uint64 left = memory->capacity - memory->used - cells;
    return memory->shares[share] + cells <= kRoleFactor * left &&
           database->outbox.cells + cells <= kDatabaseFactor * left;
}

}  // namespace

Cell *CellAt(uint32 number) { return &memory->cells[number - 1]; }

uint32 CellsFor(uint32 text_bytes) {
    return 1 + (text_bytes + sizeof(Cell::text) - 1) / static_cast<uint32>(sizeof(Cell::text));
}

// Moves up to kCellsPerHold cells from the free list to the front of another one. Returns how many: 0 where
// not all that are `wanted` fit any more.
static uint32 TakeSome(DatabaseShared *database, uint32 share, uint32 wanted, uint32 *list) {
    const uint32 count = Min(wanted, kCellsPerHold);
    LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
    const bool fits = Fits(database, share, wanted);
    if (fits) {
        const uint32 first = memory->free;
        uint32 last = first;
        for (uint32 i = 1; i < count; i++) last = CellAt(last)->next;
        memory->free = CellAt(last)->next;
        CellAt(last)->next = *list;
        *list = first;
        memory->used += count;
        memory->shares[share] += count;
        database->outbox.cells += count;
    } else {
        memory->refusals++;
    }
    LWLockRelease(Lock(kOutboxLock));
    return fits ? count : 0;
}

// Gives cells back that are no entry yet.
static void ReturnCells(DatabaseShared *database, uint32 share, uint32 list) {
    while (list != 0) {
        LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
        for (uint32 i = 0; i < kCellsPerHold && list != 0; i++) {
            const uint32 following = CellAt(list)->next;
            CellAt(list)->next = memory->free;
            memory->free = list;
            memory->used--;
            memory->shares[share]--;
            database->outbox.cells--;
            list = following;
        }
        LWLockRelease(Lock(kOutboxLock));
    }
}

bool TakeCells(DatabaseShared *database, Oid role, uint32 cells, uint32 *free_list) {
    const uint32 share = ShareOf(role);
    *free_list = 0;
    for (uint32 taken = 0; taken < cells;) {
        const uint32 more = TakeSome(database, share, cells - taken, free_list);
        if (more == 0) {
            ReturnCells(database, share, *free_list);
            *free_list = 0;
            return false;
        }
        taken += more;
    }
    return true;
}

void Append(OutboxChain *chain, uint32 number) {
    CellAt(number)->next = 0;
    if (chain->last == 0)
        chain->first = number;
    else
        CellAt(chain->last)->next = number;
    chain->last = number;
    chain->entries++;
}

Cell *AddToChain(OutboxChain *chain, uint32 *free_list, Oid role) {
    const uint32 number = *free_list;
    Cell *cell = CellAt(number);
    *free_list = cell->next;
    cell->more = 0;
    cell->is_prepared = 0;
    cell->share = ShareOf(role);
    Append(chain, number);
    return cell;
}

void AddText(OutboxChain *chain, uint32 *free_list, const char *text, uint32 bytes) {
    uint32 *more = &CellAt(chain->last)->more;
    for (uint32 done = 0; done < bytes; done += sizeof(Cell::text)) {
        const uint32 piece = *free_list;
        Cell *holder = CellAt(piece);
        *free_list = holder->next;
        std::memcpy(holder->text, text + done, Min(bytes - done, sizeof(Cell::text)));
        holder->next = 0;
        holder->more = 0;
        holder->is_prepared = 0;
        *more = piece;
        more = &holder->more;
    }
}

// Gives an entry's cells back, under the outbox lock; how many.
uint32 FreeEntry(DatabaseShared *database, uint32 number) {
    const uint32 share = CellAt(number)->share;
    uint32 count = 0;
    if (CellAt(number)->is_prepared != 0) {
        for (uint32 entry = CellAt(number)->more; entry != 0;) {
            const uint32 following = CellAt(entry)->next;
            count += FreeEntry(database, entry);
            entry = following;
        }
        CellAt(number)->more = 0;
    }
    for (; number != 0; count++) {
        Cell *cell = CellAt(number);
        const uint32 more = cell->more;
        cell->next = memory->free;
        cell->more = 0;
        cell->is_prepared = 0;
        memory->free = number;
        memory->used--;
        memory->shares[share]--;
        database->outbox.cells--;
        number = more;
    }
    return count;
}

void FreeChain(DatabaseShared *database, OutboxChain *chain) {
    uint32 number = chain->entries == 0 ? 0 : chain->first;
    *chain = OutboxChain{};
    while (number != 0) {
        LWLockAcquire(Lock(kOutboxLock), LW_EXCLUSIVE);
        for (uint32 freed = 0; number != 0 && freed < kCellsPerHold;) {
            const uint32 following = CellAt(number)->next;
            freed += FreeEntry(database, number);
            number = following;
        }
        LWLockRelease(Lock(kOutboxLock));
    }
}

OutboxGauges ReadOutboxGauges() {
    LWLockAcquire(Lock(kOutboxLock), LW_SHARED);
    OutboxGauges gauges = {memory->capacity == 0 ? 1.0 : static_cast<double>(memory->used) / memory->capacity,
                           memory->refusals};
    LWLockRelease(Lock(kOutboxLock));
    return gauges;
}

Size OutboxMemory() { return MAXALIGN(offsetof(CellsShared, cells) + Capacity() * sizeof(Cell)); }

void InitOutboxMemory() {
    bool found;
    memory = static_cast<CellsShared *>(ShmemInitStruct("pg_herald outbox", OutboxMemory(), &found));
    if (found) return;
    std::memset(static_cast<void *>(memory), 0, offsetof(CellsShared, cells));
    memory->capacity = Capacity();
    for (uint32 i = 0; i < memory->capacity; i++) {
        memory->cells[i].next = i + 1 < memory->capacity ? i + 2 : 0;
        memory->cells[i].more = 0;
        memory->cells[i].is_prepared = 0;
    }
    memory->free = memory->capacity > 0 ? 1 : 0;
}

}  // namespace herald
