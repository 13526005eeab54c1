// Change feeds as their triggers see them, cached per session: which table, which channel, what a message says.
//
// A feed belongs to the role that made it: its rights on the table and on the channel are what counts, not those
// of whoever writes to the table.

#pragma once

#include "change/table_triggers.hpp"
#include "change/trigger_call.hpp"
#include "pg/pg.hpp"

namespace herald {

enum class FeedMessage : uint8 {
    kKey,       // which row
    kDiff,      // and which columns, with their old and new values
    kRow,       // or with the row as it is now
    kTemplate,  // a text made of columns: orders:{id}:{op}
};

enum class PieceKind : uint8 { kText, kColumn, kOperation, kTable, kSchema };

struct TemplatePiece {
    PieceKind kind;
    const char *text;  // or the column's name
};

struct Feed {
    int32 id;
    Oid relation;
    const char *channel;
    int32 channel_id;        // 0: it was not declared when the feed was made
    const char *owner;       // its name when the feed was made
    const char *owner_role;  // and its identity, see pg/roles.hpp; NULL: unknown
    FeedMessage message;
    const char *message_text;  // as given
    uint8 operations;          // a set of RowChange
    int column_count;          // 0: all columns
    const char **columns;      // that are published, and watched
    int piece_count;
    TemplatePiece *pieces;
};

// The feed of that id, or NULL. It lives until the end of the transaction.
const Feed *FindFeed(int32 id);

// All feeds, or those of a table or a channel, in the order of their ids, in the current context.
const Feed *ReadFeeds(int *count);

// Pieces of a template, in the current context; NULL and what is wrong with it where it is none.
TemplatePiece *ParseTemplate(const char *text, int *count, const char **problem);

// The text of the pieces, in the current context; NULL where it would be read as another one.
const char *TemplateOf(const TemplatePiece *pieces, int count);

uint8 OperationOfName(const char *name);  // 0: none
const char *NameOfOperation(uint8 operation);

// The triggers that a feed needs; strings in the current context.
TriggerSet TriggersOf(const Feed &feed);

// True where the relation is that of the feed, or below it.
bool IsInFeed(const Feed &feed, Oid relation);

// Makes all sessions read the feeds again, at commit; this one at the next look.
void InvalidateFeeds();

}  // namespace herald
