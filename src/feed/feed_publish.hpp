// Publishing what a transaction has noted, just before it commits or is prepared.
//
// Nothing here makes the writer fail: what the channel would refuse is found out before it is published, reported
// by a WARNING, and counted as rejected.

#pragma once

#include "feed/feed.hpp"
#include "pg/transaction_part.hpp"

namespace herald {

// Why the feed can't publish; NULL: it can. In the current context.
const char *FindRightsProblem(const Feed &feed);

// True where the caller has the rights of the feed's owner, or of the table's. Takes no lock.
bool MaySeeFeed(const Feed &feed);

extern const pg::TransactionPart kFeedsPart;

// Called once per process, from _PG_init, with what says whether a table is audited.
void InitFeeds(bool (*is_audited)(Oid relation));

}  // namespace herald
