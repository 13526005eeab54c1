// What is kept for the current transaction, and has to know how it ends. There is one pair of callbacks for all: the order
// in which the parts are told is written in module.cpp.
//
// Each event is a reference to a function, so that a part that has forgotten one does not compile; NoEnd and NoSubEnd are
// for those that mean nothing to it.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

struct TransactionPart {
    // Both may raise an ERROR: then the transaction is aborted.
    void (&before_commit)();
    void (&before_prepare)();
    // None of these may fail. A parallel worker's transaction, for which nothing is kept, ends as aborted.
    void (&committed)();
    void (&prepared)();
    void (&aborted)();
    // What belongs to the subtransaction goes to its parent, or is given up. Subtransactions nest, and their numbers
    // grow: all that is of `own` or a higher one came with it.
    void (&sub_committed)(SubTransactionId own, SubTransactionId parent);
    void (&sub_aborted)(SubTransactionId own);
};

inline void NoEnd() {}
inline void NoSubEnd(SubTransactionId, SubTransactionId) {}
inline void NoSubEnd(SubTransactionId) {}

// The parts are told in this order, at each event. Called once per process, from _PG_init.
void FollowTransactions(const TransactionPart *const *parts, int count);

}  // namespace herald::pg
