// herald.try_lock and herald.unlock.

#include "pg/pg.hpp"

#include "channel/channel.hpp"
#include "locks/named_locks.hpp"
#include "pg/arguments.hpp"
#include "pg/guard.hpp"

using namespace herald;

// herald.try_lock(name text, scope text, channel text) -> boolean
HERALD_FUNCTION(try_lock) {
    const char *name = pg::RequiredText(fcinfo, 0, "name");
    const LockScope scope = LockScopeOfName(pg::RequiredText(fcinfo, 1, "scope"));
    PG_RETURN_BOOL(TryLock(name, scope, ChannelNameArgument(fcinfo, 2)));
}

// herald.unlock(name text) -> boolean
HERALD_FUNCTION(unlock) { PG_RETURN_BOOL(Unlock(pg::RequiredText(fcinfo, 0, "name"))); }
