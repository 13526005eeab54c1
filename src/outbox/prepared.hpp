// Prepared transactions: what they have for the consumers hangs on one cell each, from PREPARE until they have
// ended. So undecided ones cost as much as there are transactions, whatever these have published, and what
// is to be done at the end is what the transaction did.
//
// Who comes in between: the consumers, which step over what is undecided; a new consumer, which finds it in
// the queue; a full outbox, which has no room for the cell; a restart of the server, after which the cells
// are gone and the transactions still there. For the last two the dispatcher lists the prepared transactions
// of the database, and has a cell for each of them that asks for everything; until then each
// COMMIT PREPARED does (`unlisted` in database.hpp).

#pragma once

#include "outbox/cells.hpp"

namespace herald {

// Hangs a chain (or none) on one cell, which is the chain from then on.
void Enclose(OutboxChain *chain, uint32 *free_list, Oid role, TransactionId xid, uint32 flags);

// Has a cell for each prepared transaction of the database. By the dispatcher, in a transaction, before it reads
// the tables. False: there is nothing to be listed, or no room.
bool ListPrepared(DatabaseShared *database);

// A transaction that was prepared has ended, or an attempt to end one has.
void AfterPreparedEnd();

}  // namespace herald
