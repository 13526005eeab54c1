// See shared_memory.hpp. Each part knows its own size and how to set itself up.

#include "shared_memory.hpp"

#include "listen/listeners.hpp"
#include "log/recent.hpp"
#include "registry/lwlocks.hpp"
#include "outbox/outbox.hpp"
#include "pg/pg.hpp"
#include "stats/channel_counters.hpp"
#include "stats/stats_file.hpp"
#include "stats/subscription_counters.hpp"
#include "worker/crash_file.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
}

namespace herald {

namespace {

shmem_request_hook_type previous_request = nullptr;
shmem_startup_hook_type previous_startup = nullptr;

void Request() {
    if (previous_request != nullptr) previous_request();
    RequestAddinShmemSpace(add_size(add_size(add_size(DatabaseMemory(), OutboxMemory()), WorkerSlotMemory()),
                                    add_size(add_size(ChannelCounterMemory(), SubscriptionCounterMemory()),
                                             add_size(ListenerMemory(), RecentMemory()))));
    RequestNamedLWLockTranche("pg_herald", kLockCount);
}

void Startup() {
    if (previous_startup != nullptr) previous_startup();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    InitLocks();
    InitDatabaseMemory();
    InitOutboxMemory();
    InitWorkerSlots();
    InitChannelCounters();
    InitSubscriptionCounters();
    InitListeners();
    InitRecent();
    LWLockRelease(AddinShmemInitLock);
    KeepStatistics();
    InitCrashFile();
}

}  // namespace

void InitSharedMemory() {
    previous_request = shmem_request_hook;
    shmem_request_hook = Request;
    previous_startup = shmem_startup_hook;
    shmem_startup_hook = Startup;
}

}  // namespace herald
