// Whether a table of the extension is still what its script made. Our statements run with its owner's rights, so a
// trigger or a rule that somebody put on such a table would run code with them.
//
// It is checked when a statement of ours starts: its tables are locked by then, and nothing can be added to them until
// the transaction ends.

#pragma once

#include "pg/transaction_part.hpp"

namespace herald::pg {

// Around a statement of ours; the end of the (sub)transaction ends it, too.
void BeginOwnStatement();
void EndOwnStatement();

// Locks a table of the extension until the transaction ends, and raises 55000 where something foreign is on it: for
// commands, of which nothing else knows.
void RequireTrustedTable(const char *name, int lock_mode);

// False where something foreign is on one of the tables, which stay locked against more until the transaction ends; it is
// said once in the log. For processes that are not to end for it.
bool TrustsTables(const char *const *names, int count);

// Raises 55000: a rule took the place of the statement.
[[noreturn]] void ReportRewritten(const char *sql);

extern const TransactionPart kOwnStatementPart;

// Called once per process, from _PG_init.
void InitTableTrust();

}  // namespace herald::pg
