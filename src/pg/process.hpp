// What every background process of ours does the same way: signals, sleeping, reloading the
// configuration, transactions of its own.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

enum class CancelSignal { kIgnored, kWhenAllowed };

// Installs the signal handlers and unblocks signals: SIGTERM ends the process at its next interrupt
// check (FATAL), SIGHUP rereads the configuration, SIGINT as given. Where it is not ignored lock_timeout works, too.
void InitProcess(CancelSignal cancel);

// Whether SIGINT cancels what is under way; not at first. A lock_timeout always does.
void AllowCancel(bool allowed);

// Between the two no lock is waited for for longer, whatever the lock_timeout of the session is. Pairs may not nest, and
// an ERROR leaves it as it is.
constexpr int kLongestLockWait = 2000;  // milliseconds
void LimitLockWaits(int milliseconds = kLongestLockWait);
void UnlimitLockWaits();

// Sleeps until the latch is set, the time is over, or the postmaster is gone (then it exits). Resets
// the latch, handles interrupts and a changed configuration. Negative: no time limit.
// Returns true if the latch was set.
bool SleepOnLatch(long milliseconds);

// A transaction of a background process with an active snapshot, READ COMMITTED, read-write.
// With an active snapshot. `isolation`: XACT_READ_COMMITTED and its like; -1: that of the session.
void BeginTransaction(int isolation = -1);
void CommitTransaction();

// In PG_CATCH of such a transaction: aborts it, and logs what failed with the caught error's text.
void AbortAndLog(MemoryContext caller, const char *what, const char *hint, int level = LOG);

// Connects the process to a database (InvalidOid: to the shared catalogs only) as `role`, and pins the client encoding
// to the database's, so that no text of ours is converted, and isolation and access mode, so that a role's defaults can't
// change how tasks run. InvalidOid: the bootstrap superuser, with the settings of the server whatever the defaults
// of database and role are.
void ConnectToDatabase(Oid database, Oid role);

}  // namespace herald::pg
