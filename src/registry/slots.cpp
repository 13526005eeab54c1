// See slots.hpp.

#include "registry/slots.hpp"

#include "registry/lwlocks.hpp"
#include "settings.hpp"

extern "C" {
#include "storage/latch.h"
#include "storage/shmem.h"
}

namespace herald {

namespace {

struct SlotsShared {
    // Atomic; written under the pool lock. One more than the highest slot ever claimed.
    pg_atomic_uint32 limit;
    WorkerSlotShared slots[kMaxWorkerSlots];
};

SlotsShared *shared = nullptr;
WorkerSlotShared *slots = nullptr;

uint64 Pack(uint64 generation, SlotState state) { return generation << 8 | static_cast<uint64>(state); }

uint32 PackProgress(const Progress &progress) {
    return progress.begun | progress.end << 8 | (progress.committing ? 1u << 16 : 0);
}

Progress UnpackProgress(uint32 word) { return {word & 0xff, word >> 8 & 0xff, (word >> 16) != 0}; }

static_assert(core::kMaxBatch < 256);

// Workers of the same database and role that are not asked to leave.
int WorkersLike(const WorkerSlotShared &slot) {
    int count = 0;
    for (int i = 0; i < WorkerSlotLimit(); i++)
        if (StateOf(&slots[i]) != SlotState::kFree && slots[i].database == slot.database &&
            slots[i].role == slot.role && pg_atomic_read_u32(&slots[i].evict) == 0)
            count++;
    return count;
}

}  // namespace

WorkerSlotShared *WorkerSlot(int index) { return &slots[index]; }

int WorkerSlotLimit() { return static_cast<int>(pg_atomic_read_u32(&shared->limit)); }

SlotWord WordOf(const WorkerSlotShared *slot) {
    uint64 word = pg_atomic_read_u64(const_cast<pg_atomic_uint64 *>(&slot->word));
    // Pairs with the barrier in the writer's change of state: what the state announces is visible
    // from here on.
    pg_read_barrier();
    return {word >> 8, static_cast<SlotState>(word & 0xff)};
}

bool ChangeState(WorkerSlotShared *slot, SlotWord from, SlotState to) {
    uint64 expected = Pack(from.generation, from.state);
    return pg_atomic_compare_exchange_u64(&slot->word, &expected, Pack(from.generation, to));
}

Progress ProgressOf(const WorkerSlotShared *slot) {
    return UnpackProgress(pg_atomic_read_u32(const_cast<pg_atomic_uint32 *>(&slot->progress)));
}

void StartProgress(WorkerSlotShared *slot, uint32 count) {
    pg_atomic_write_u32(&slot->progress, PackProgress({0, count, false}));
}

int BeginTask(WorkerSlotShared *slot) {
    uint32 word = pg_atomic_read_u32(&slot->progress);
    for (;;) {
        Progress progress = UnpackProgress(word);
        if (progress.begun >= progress.end) return -1;
        progress.begun++;
        if (pg_atomic_compare_exchange_u32(&slot->progress, &word, PackProgress(progress)))
            return static_cast<int>(progress.begun) - 1;
    }
}

void BeginCommit(WorkerSlotShared *slot) {
    uint32 word = pg_atomic_read_u32(&slot->progress);
    for (;;) {
        Progress progress = UnpackProgress(word);
        progress.committing = true;
        if (pg_atomic_compare_exchange_u32(&slot->progress, &word, PackProgress(progress))) return;
    }
}

Recalled RecallTasks(WorkerSlotShared *slot) {
    uint32 word = pg_atomic_read_u32(&slot->progress);
    for (;;) {
        Progress progress = UnpackProgress(word);
        const uint32 kept = Max(progress.begun, 1);
        const uint32 end = progress.end;
        if (progress.committing || kept >= end) return {end, end};
        progress.end = kept;
        if (pg_atomic_compare_exchange_u32(&slot->progress, &word, PackProgress(progress))) return {kept, end};
    }
}

const core::Task &TaskOf(const WorkerSlotShared *slot) {
    const uint32 begun = ProgressOf(slot).begun;
    return slot->tasks[begun == 0 ? 0 : begun - 1].task;
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
        slot->tasks_dealt = 0;
        slot->ready_at = GetCurrentTimestamp();
        pg_atomic_write_u32(&slot->pid, 0);
        pg_atomic_write_u32(&slot->proc, 0);
        pg_atomic_write_u32(&slot->evict, 0);
        pg_atomic_write_u32(&slot->xid, InvalidTransactionId);
        StartProgress(slot, 0);
        pg_write_barrier();
        pg_atomic_write_u64(&slot->word, Pack(WordOf(slot).generation + 1, SlotState::kStarting));
        if (claimed >= WorkerSlotLimit()) pg_atomic_write_u32(&shared->limit, static_cast<uint32>(claimed) + 1);
    }
    LWLockRelease(Lock(kPoolLock));
    return claimed;
}

int WorkerSlotsInUse() {
    int used = 0;
    for (int i = 0; i < WorkerSlotLimit(); i++)
        if (StateOf(&slots[i]) != SlotState::kFree) used++;
    return used;
}

void EvictIdleWorkers(Oid database) {
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = &slots[i];
        if (StateOf(slot) == SlotState::kFree || slot->database != database) continue;
        pg_atomic_write_u32(&slot->evict, 1);
        WakeWorker(slot);
    }
}

void EvictWorkersOf(Oid database, Oid role) {
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = &slots[i];
        if (StateOf(slot) == SlotState::kFree || (OidIsValid(database) && slot->database != database) ||
            (OidIsValid(role) && slot->role != role))
            continue;
        pg_atomic_write_u32(&slot->evict, 1);
        WakeWorker(slot);
    }
}

bool EvictOneIdleWorker(Oid for_database, Oid for_role, bool spare_last) {
    TimestampTz now = GetCurrentTimestamp();
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = &slots[i];
        if (StateOf(slot) != SlotState::kIdle) continue;
        if (slot->database == for_database && slot->role == for_role) continue;
        // One that was started for a task gets the time to be given it.
        if (slot->tasks_dealt == 0 && now - slot->ready_at < USECS_PER_SEC) continue;
        if (pg_atomic_read_u32(&slot->evict) != 0) return true;  // on its way
        if (spare_last && WorkersLike(*slot) <= 1) continue;
        pg_atomic_write_u32(&slot->evict, 1);
        WakeWorker(slot);
        return true;
    }
    return false;
}

Size WorkerSlotMemory() { return MAXALIGN(sizeof(SlotsShared)); }

void InitWorkerSlots() {
    bool found;
    shared = static_cast<SlotsShared *>(ShmemInitStruct("pg_herald worker slots", WorkerSlotMemory(), &found));
    slots = shared->slots;
    if (found) return;
    std::memset(static_cast<void *>(shared), 0, WorkerSlotMemory());
    pg_atomic_init_u32(&shared->limit, 0);
    for (int i = 0; i < kMaxWorkerSlots; i++) {
        pg_atomic_init_u64(&slots[i].word, Pack(0, SlotState::kFree));
        pg_atomic_init_u32(&slots[i].pid, 0);
        pg_atomic_init_u32(&slots[i].proc, 0);
        pg_atomic_init_u32(&slots[i].evict, 0);
        pg_atomic_init_u32(&slots[i].progress, 0);
        pg_atomic_init_u32(&slots[i].xid, InvalidTransactionId);
    }
}

int CountRunning(int32 subscription_id) {
    int running = 0;
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        const WorkerSlotShared *slot = WorkerSlot(i);
        const SlotState state = StateOf(slot);
        if ((state == SlotState::kAssigned || state == SlotState::kRunning) && slot->database == MyDatabaseId &&
            TaskOf(slot).subscription == subscription_id)
            running++;
    }
    return running;
}

}  // namespace herald
