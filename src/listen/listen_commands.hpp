// Follows LISTEN, UNLISTEN and DISCARD ALL of the session as core does: noted when the command succeeds,
// dropped with its savepoint, applied when the transaction commits. Listening without a command, as our
// announcer does, is not seen.

#pragma once

#include "pg/transaction_part.hpp"

namespace herald {

extern const pg::TransactionPart kListenPart;
void InitListenCommands();  // from _PG_init

}  // namespace herald
