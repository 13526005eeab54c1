// The only way to go on after an error: what has failed is rolled back by itself. And the only one to be rid of a
// lock before the transaction ends.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "access/xact.h"
#include "utils/resowner.h"
}

namespace herald::pg {

// Runs `body` in a subtransaction. False, and nothing done, where it failed; `error` has a copy.
template <typename Body>
bool InSubtransaction(Body &&body, ErrorData **error) {
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    volatile bool done = false;

    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        body();
        ReleaseCurrentSubTransaction();
        done = true;
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        *error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return done;
}

// Runs a body that only reads, and lets go of all locks that it has taken: so that an open transaction doesn't keep
// what it has looked at from being emptied. Not in a parallel operation. Its errors go on to the caller.
template <typename Body>
void ReadAndLetGo(Body &&body) {
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData *volatile error = nullptr;

    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    { body(); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    if (error != nullptr) ReThrowError(error);
}

}  // namespace herald::pg
