// What the dispatcher does where outcomes can't be recorded, for a reason that says nothing of the tasks: a full
// disk, no memory. It isn't charged to any of them, and not every one is to find it out anew, as each look runs a
// handler in vain. So nothing is dealt for a while, then a single task, and where that can't be recorded either,
// nothing for twice as long.

#pragma once

#include "pg/pg.hpp"

#include "registry/database.hpp"

namespace herald {

class Recording {
public:
    // Begins where a predecessor of this dispatcher left off: with a single task.
    explicit Recording(DatabaseShared *database);

    // What a worker has reported: the SQLSTATE for which it could record nothing, or 0 for an outcome that it
    // has recorded.
    void Note(int sqlstate, TimestampTz now);

    // Until when nothing may be dealt; 0: at once.
    TimestampTz RestsUntil(TimestampTz now) const { return until_ > now ? until_ : 0; }
    // Only one task may be under way; but another one after a while, as its handler may take long.
    bool OneTask() const { return failures_ > 0; }
    TimestampTz NextTry() const { return tried_at_ + 10 * USECS_PER_SEC; }
    void NoteTry(TimestampTz now) { tried_at_ = now; }

private:
    DatabaseShared *database_;
    int failures_ = 0;  // in a row
    TimestampTz until_ = 0;
    TimestampTz tried_at_ = 0;
};

}  // namespace herald
