// What the current transaction will count when it commits. Between channel_counters.cpp, which owns the
// shared table, and pending_counts.cpp, which owns the callbacks.

#pragma once

#include "pg/transaction_part.hpp"

namespace herald {

// Offered by the shared table. None of the three can fail.
// Adds kChannelCounters amounts to a slot; `now` is when the transaction ended.
void CountCommitted(int slot, const uint64 *amounts, TimestampTz now);
// Voids all handles of the slot and gives it back.
void DropChannelCounterSlot(int slot);
// The number in a handle: 0 to ChannelCounterCapacity().
int SlotNumber(int slot);
// The slot of a channel, or -1.
int FindChannelCounterSlot(Oid database, const char *channel);

extern const pg::TransactionPart kPendingCountsPart;

}  // namespace herald
