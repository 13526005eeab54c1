// Locks with names, and a broadcast when one of them is free again: herald.try_lock and herald.unlock.
//
// They are advisory locks of the lock manager, in a space that pg_advisory_lock does not reach, so that all
// the ways in which a session can lose a lock are the server's own: unlock, the end of a transaction or of
// a savepoint, DISCARD ALL, the end of the session however it comes. This module only remembers which locks
// the session has, and looks after each of these whether it still has them.
//
// The announcement of a release is reserved in the outbox when the lock is taken, and made after the lock
// manager has let go: so it can't fail then, and who hears it can get the lock.

#pragma once

#include "pg/transaction_part.hpp"

namespace herald {

enum class LockScope {
    kSession,      // until unlocked as often as it was taken, or the session ends; no rollback gives it back
    kTransaction,  // until the transaction, or the savepoint it was taken in, ends
};

inline constexpr std::size_t kLongestLockName = 1024;

LockScope LockScopeOfName(const char *name);  // 22023 for what is none

// Takes the lock unless another session has it: true where it is this session's now. Its release is
// announced on the channel, which the current role must be allowed to publish to (42501). 53400 where the
// outbox has no room for the announcement.
bool TryLock(const char *name, LockScope scope, const char *channel);

// Gives a lock of the session back when the transaction commits; a rollback keeps it. False where the session
// does not have it, or has unlocked it as often as it took it.
bool Unlock(const char *name);

// Announces what this session has lost. To be called where locks were released outside of a transaction.
void AnnounceReleases();

extern const pg::TransactionPart kNamedLocksPart;
void InitNamedLocks();  // from _PG_init

}  // namespace herald
