// See session.hpp. Settings are not here: they end with a nest level of their own (handler_call.cpp).

#include "pg/pg.hpp"

#include "locks/named_locks.hpp"
#include "pg/own_locks.hpp"
#include "process/session.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "storage/lock.h"
#include "utils/portal.h"
}

namespace herald {

namespace {

bool constraints_set = false;

bool UsedTemporaryObjects() { return (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0; }

}  // namespace

bool LeftTrace() { return constraints_set || UsedTemporaryObjects() || pg::HoldsAdvisoryLock(); }

void NoteSetConstraints() { constraints_set = true; }

void CleanSessionInTransaction() {
    PortalHashTableDeleteAll();
    // It looks for them in the catalogs.
    if (UsedTemporaryObjects()) ResetTempTableNamespace();
    DropAllPreparedStatements();
    ResetSequenceCaches();
}

void CleanSessionAfterTransaction() {
    constraints_set = false;
    LockReleaseAll(USER_LOCKMETHOD, true);
    AnnounceReleases();
}

}  // namespace herald
