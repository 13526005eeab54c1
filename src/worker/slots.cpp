// See slots.hpp.

#include "worker/slots.hpp"

#include "outbox/locks.hpp"
#include "settings.hpp"

extern "C" {
#include "storage/latch.h"
#include "storage/shmem.h"
}

namespace herald {

namespace {
WorkerSlotShared *slots = nullptr;
}

WorkerSlotShared *WorkerSlot(int index) { return &slots[index]; }

SlotState StateOf(const WorkerSlotShared *slot) {
    // The barrier pairs with the one before the writer's change of state: what the state announces
    // is visible after it.
    auto state = static_cast<SlotState>(
        pg_atomic_read_u32(const_cast<pg_atomic_uint32 *>(&slot->state)));
    pg_read_barrier();
    return state;
}

bool ChangeState(WorkerSlotShared *slot, SlotState from, SlotState to) {
    uint32 expected = static_cast<uint32>(from);
    return pg_atomic_compare_exchange_u32(&slot->state, &expected, static_cast<uint32>(to));
}

void WakeWorker(WorkerSlotShared *slot) {
    uint32 number = pg_atomic_read_u32(&slot->proc);
    if (number != 0) SetLatch(&ProcGlobal->allProcs[number - 1].procLatch);
}

int ClaimWorkerSlot(Oid database, Oid role) {
    int claimed = -1;
    int used = 0;

    LWLockAcquire(Lock(kPoolLock), LW_EXCLUSIVE);
    for (int i = 0; i < kMaxWorkerSlots; i++) {
        if (StateOf(&slots[i]) != SlotState::kFree)
            used++;
        else if (claimed < 0)
            claimed = i;
    }
    if (used >= settings::max_workers) claimed = -1;
    if (claimed >= 0) {
        WorkerSlotShared *slot = &slots[claimed];
        slot->database = database;
        slot->role = role;
        slot->generation++;
        slot->started_at = GetCurrentTimestamp();
        slot->outcome = Outcome::kNone;
        pg_atomic_write_u32(&slot->pid, 0);
        pg_atomic_write_u32(&slot->proc, 0);
        pg_atomic_write_u32(&slot->evict, 0);
        pg_atomic_write_u32(&slot->xid, InvalidTransactionId);
        ChangeState(slot, SlotState::kFree, SlotState::kStarting);
    }
    LWLockRelease(Lock(kPoolLock));
    return claimed;
}

void FreeWorkerSlot(int index) {
    pg_write_barrier();
    pg_atomic_write_u32(&slots[index].state, static_cast<uint32>(SlotState::kFree));
}

int WorkerSlotsInUse() {
    int used = 0;
    for (int i = 0; i < kMaxWorkerSlots; i++)
        if (StateOf(&slots[i]) != SlotState::kFree) used++;
    return used;
}

void EvictIdleWorkers(Oid database) {
    for (int i = 0; i < kMaxWorkerSlots; i++) {
        WorkerSlotShared *slot = &slots[i];
        if (StateOf(slot) == SlotState::kFree || slot->database != database) continue;
        pg_atomic_write_u32(&slot->evict, 1);
        WakeWorker(slot);
    }
}

bool EvictOneIdleWorker(Oid for_database, Oid for_role) {
    for (int i = 0; i < kMaxWorkerSlots; i++) {
        WorkerSlotShared *slot = &slots[i];
        if (StateOf(slot) != SlotState::kIdle) continue;
        if (slot->database == for_database && slot->role == for_role) continue;
        pg_atomic_write_u32(&slot->evict, 1);
        WakeWorker(slot);
        return true;
    }
    return false;
}

Size WorkerSlotMemory() { return MAXALIGN(sizeof(WorkerSlotShared) * kMaxWorkerSlots); }

void InitWorkerSlots() {
    bool found;
    slots = static_cast<WorkerSlotShared *>(
        ShmemInitStruct("pg_herald worker slots", WorkerSlotMemory(), &found));
    if (found) return;
    std::memset(static_cast<void *>(slots), 0, WorkerSlotMemory());
    for (int i = 0; i < kMaxWorkerSlots; i++) {
        pg_atomic_init_u32(&slots[i].state, static_cast<uint32>(SlotState::kFree));
        pg_atomic_init_u32(&slots[i].pid, 0);
        pg_atomic_init_u32(&slots[i].proc, 0);
        pg_atomic_init_u32(&slots[i].evict, 0);
        pg_atomic_init_u32(&slots[i].xid, InvalidTransactionId);
    }
}

}  // namespace herald
