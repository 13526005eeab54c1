// How many dead letters a subscription has, without counting them at each look.
//
// Whoever adds or takes dead letters says so, and adds the difference to the entry in shared memory after
// its commit. Only where nobody knows the number (after a start, say) they are counted, by whoever
// looks: while no such transaction is between its commit and its adding, so that none is missed or counted
// twice. The number is trusted for one epoch; the dispatcher begins a new one now and then, and whoever
// changed dead letters in ways that can't be followed.

#pragma once

#include "registry/database.hpp"
#include "pg/transaction_part.hpp"

namespace herald {

// By the transaction that adds (or, negative, takes) dead letters.
void CountDeadAtCommit(int32 subscription, int64 difference);

// As of now, whatever the transaction's snapshot is.
int64 DeadLettersOf(int32 subscription);

extern const pg::TransactionPart kDeadCountsPart;

}  // namespace herald
