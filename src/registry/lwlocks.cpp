// See lwlocks.hpp.

#include "registry/lwlocks.hpp"

namespace herald {

namespace {
LWLockPadded *tranche = nullptr;
}

LWLock *Lock(LockNumber number) { return &tranche[number].lock; }

void InitLocks() { tranche = GetNamedLWLockTranche("pg_herald"); }

}  // namespace herald
