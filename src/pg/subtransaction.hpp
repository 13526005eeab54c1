// The only way to go on after an error: what has failed is rolled back by itself.

#pragma once

#include "pg/pg.hpp"

extern "C" {
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

}  // namespace herald::pg
