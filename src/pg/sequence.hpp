// Ids from a sequence of ours.
//
// nextval() makes the sequence that it reads the session's last one, so that lastval() after a user's INSERT
// would answer with an id of ours, or fail for want of a privilege on it. This reader leaves the session's
// state alone, and is otherwise as nextval(): no two callers get one id, a crash only skips some, what a
// rollback leaves is not used again, and nobody waits longer than for the lock on the sequence's page.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

// The first of `count` ids that follow one another, whatever the sequence's INCREMENT and CACHE. Gives the
// transaction an xid; needs no privilege. 2200H where there are no more.
int64 DrawIds(Oid sequence, int64 count);

}  // namespace herald::pg
