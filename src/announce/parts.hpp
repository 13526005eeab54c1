// The parts of the announcer's turns. A part may fail for reasons that are not its own (a lock, a full disk); it is
// then done later and must not keep the other parts from being done. The more often it has failed, the later.

#pragma once

#include "registry/database.hpp"
#include "pg/process.hpp"

namespace herald {

struct Part {
    AnnouncerStep step;
    const char *failure;
    TimestampTz failing_since;  // 0: it works
    TimestampTz next;           // not before
    TimestampTz logged;
    int failures;  // in a row
};

void NoteDone(DatabaseShared *database, Part *part);
// True where the failure is worth a line in the log.
bool NoteFailed(DatabaseShared *database, Part *part, int sqlstate);
// Locks, what the server lacks, and tables of the extension that others have changed. Another process would meet the
// same; any other error ends this one.
bool MayPass(int sqlstate);

// True where the part was done, not where it is not yet to be tried again, or has failed.
template <typename Body>
bool Try(DatabaseShared *database, Part *part, Body &&body) {
    MemoryContext caller = CurrentMemoryContext;
    volatile bool done = false;
    if (part->next > GetCurrentTimestamp()) return false;
    PG_TRY();
    {
        body();
        done = true;
    }
    PG_CATCH();
    {
        if (!MayPass(geterrcode())) PG_RE_THROW();
        const bool log = NoteFailed(database, part, geterrcode());
        pg::AbortAndLog(caller, part->failure, "It is tried again, less and less often.", log ? LOG : DEBUG1);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(caller);
    if (done) NoteDone(database, part);
    return done;
}

}  // namespace herald
