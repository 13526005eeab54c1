// Making and ending change feeds, and keeping their triggers where tables come and go.

#pragma once

#include "feed/feed.hpp"
#include "pg/pg.hpp"

namespace herald {

// Arguments of herald.enable_change_feed; datums are arrays of text, 0 for NULL.
struct FeedOptions {
    const char *channel;
    const char *message;
    Datum columns;
    Datum operations;
};

// Makes the feed of a table and a channel, or changes its options. For the table's owner (42501), who may publish on
// the channel.
void EnableFeed(Oid relation, const FeedOptions &options);
// Ends it: 42704 where there is none. For the table's owner.
void DisableFeed(Oid relation, const char *channel);

// What keeps a feed's changes from being published: a trigger that is missing, a right that is gone; NULL: nothing.
const char *FindFeedProblem(const Feed &feed);

// A relation has come into a tree of tables, or has left one: it gets the triggers of the feed, or loses them.
void AdjustMember(const Feed &feed, Oid relation);
// A column of the feed's table has another name: so has it in the feed's columns and its template.
void RenameFeedColumn(const Feed &feed, const char *column, const char *new_column);
// The feed's table was dropped.
void ForgetFeed(const Feed &feed);

// Registers for what happens to tables; from _PG_init.
void InitFeedWatch();

}  // namespace herald
