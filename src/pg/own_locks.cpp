// See own_locks.hpp. The lock manager tells others only of single locks, so this reads its list of what the
// process holds, which is short.

#include "pg/pg.hpp"

#include "pg/own_locks.hpp"

extern "C" {
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
}

namespace herald::pg {

namespace {

bool IsAdvisory(const PROCLOCK *held) { return held->tag.myLock->tag.locktag_lockmethodid == USER_LOCKMETHOD; }

#if PG_VERSION_NUM >= 160000

bool Empty(int partition) { return dlist_is_empty(&MyProc->myProcLocks[partition]); }

bool HasAdvisory(int partition) {
    // dlist_foreach and dlist_container are not for C++.
    const dlist_node *end = &MyProc->myProcLocks[partition].head;
    for (const dlist_node *at = end->next; at != end; at = at->next) {
        const char *held = reinterpret_cast<const char *>(at) - offsetof(PROCLOCK, procLink);
        if (IsAdvisory(reinterpret_cast<const PROCLOCK *>(held))) return true;
    }
    return false;
}

#else

bool Empty(int partition) { return SHMQueueEmpty(&MyProc->myProcLocks[partition]); }

bool HasAdvisory(int partition) {
    SHM_QUEUE *list = &MyProc->myProcLocks[partition];
    auto next = [list](SHM_QUEUE *at) {
        return reinterpret_cast<PROCLOCK *>(SHMQueueNext(list, at, offsetof(PROCLOCK, procLink)));
    };
    for (PROCLOCK *held = next(list); held != nullptr; held = next(&held->procLink))
        if (IsAdvisory(held)) return true;
    return false;
}

#endif

}  // namespace

bool HoldsAdvisoryLock() {
    bool holds = false;
    for (int partition = 0; partition < NUM_LOCK_PARTITIONS && !holds; partition++) {
        // Only this process adds advisory locks to the list; others may move its fast-path locks there.
        if (Empty(partition)) continue;
        LWLock *lock = LockHashPartitionLockByIndex(partition);
        LWLockAcquire(lock, LW_SHARED);
        holds = HasAdvisory(partition);
        LWLockRelease(lock);
    }
    return holds;
}

}  // namespace herald::pg
