// The lightweight locks of the extension, one named tranche.

#pragma once

#include "pg/pg.hpp"

namespace herald {

enum LockNumber : int {
    kRegistryLock,             // which databases have an entry
    kOutboxLock,               // the queues and the free list of the outbox
    kPoolLock,                 // claiming worker slots
    kChannelCounterLock,       // which channel has which counters
    kSubscriptionCounterLock,  // which subscription has which counters
    kListenerLock,             // which session listens to which channel
    kLockCount,
};

LWLock *Lock(LockNumber number);
void InitLocks();  // in the shmem_startup_hook

}  // namespace herald
