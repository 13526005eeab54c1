// Databases that a command of this session wants for itself (DROP, RENAME, CREATE ... TEMPLATE): none of our
// processes stays there, and none is started, until the transaction has one of its ends.

#pragma once

#include "registry/database.hpp"
#include "pg/transaction_part.hpp"

extern "C" {
#include "nodes/parsenodes.h"
}

namespace herald {

// The database that the statement will have to itself if it succeeds; InvalidOid where there is none, or where
// it will surely be refused: who may not do it must not be able to send our processes away.
Oid DatabaseToLeave(Node *statement, bool is_top_level);

// Sends our processes away and keeps them out. More than a few databases in one transaction: nothing, then
// the command itself waits for them.
void ClaimDatabase(DatabaseShared *database);

// Has the launcher look around when the transaction ends: there are other databases, or other names.
void NoteDatabaseChange();

extern const pg::TransactionPart kClaimsPart;

}  // namespace herald
