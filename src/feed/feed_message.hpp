// What a feed publishes for a change.

#pragma once

#include "change/json_writer.hpp"
#include "feed/feed_notes.hpp"
#include "pg/pg.hpp"

namespace herald {

// Names of the feed's table, and whether its changes are also in the audit trail.
struct FeedNames {
    const char *schema;
    const char *table;
    const char *both;  // schema.table
    bool audited;
};

// The payload for a row, in the buffer. Where it has more than `limit` bytes as jsonb, the largest columns are left
// out one after the other, and named in "omitted"; in the end only the key is left. NULL: even that is too large.
Jsonb *RowMessage(JsonBuffer *buffer, const Feed &feed, const FeedNames &names, const NotedRow &row, uint32 limit);

// {"op": "bulk", ...}, and {"op": "truncate", ...}, "attach" or "detach".
Jsonb *BulkMessage(JsonBuffer *buffer, const Feed &feed, const FeedNames &names, const RowCounts &counts);
Jsonb *EventMessage(JsonBuffer *buffer, const FeedNames &names, const char *event, const char *partition);

// A template's text for a row, with the values it has now, or with the old ones; in the current context. NULL:
// it has none of these.
char *TemplateText(const Feed &feed, const FeedNames &names, const NotedRow &row, bool old);

// True where the row is as it was when the transaction began.
bool IsUnchanged(const Feed &feed, const NotedRow &row);

}  // namespace herald
