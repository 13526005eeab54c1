// Ids of messages, audit entries and what else the extension keeps, from counters in the table herald_internal.id_store.
//
// No sequences: members of pg_write_all_data may set every one of them to its end. A row of the table says up to where
// ids may be in use. It is changed in place, outside of transactions, and each change is in WAL; the ids up to there are
// handed out from shared memory. So no two callers get one id; a restart skips some, what a rollback leaves is not used
// again, and the session's lastval() stays as it is.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// By the place of its name in kIdCounterNames.
enum class IdCounter : int {
    kMessage,
    kChannel,
    kSubscription,
    kDeadLetter,
    kFailure,
    kAudit,
    kAuditContext,
    kAuditTarget,
    kChangeFeed,
};

inline constexpr const char *kIdCounterNames[] = {"message", "channel",       "subscription", "dead_letter", "failure",
                                                  "audit",   "audit_context", "audit_target", "change_feed"};

// 22023 for a name that is none.
IdCounter FindIdCounter(const char *name);

// The first of `count` ids that follow one another, above all that were drawn before. Gives the transaction an xid; needs
// no privilege. 2200H where there are no more.
int64 DrawIds(IdCounter counter, int64 count);

// From now on, only ids above `used` are drawn.
void RaiseIds(IdCounter counter, int64 used);

}  // namespace herald
