// See feed_admin.hpp. The store is written as the owner of the extension, after all checks of the caller's rights.

#include "change/table_tree.hpp"
#include "feed/feed_admin.hpp"

#include "change/table_shape.hpp"
#include "feed/feed_publish.hpp"
#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/roles.hpp"
#include "pg/spi.hpp"
#include "publish/publish.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

// Long ones are read again for each transaction, column by column.
constexpr std::size_t kLongestTemplate = 8192;

void RequireTableOwner(Oid relation) {
    const char *name = get_rel_name(relation);
    if (name == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relation)));
    if (!pg::OwnsRelation(relation, GetUserId()))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of table \"%s\"", name)));
}

void RequireTable(Relation relation) {
    const char *name = RelationGetRelationName(relation);
    const char kind = relation->rd_rel->relkind;
    if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a table", name),
                        errdetail("Only tables and partitioned tables have change feeds.")));
    if (IsCatalogRelation(relation) || pg::IsOwnSchema(RelationGetNamespace(relation)))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("table \"%s\" cannot have a change feed: it is a system table", name)));
    if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("table \"%s\" cannot have a change feed: it is temporary", name)));
}

const char **Elements(Datum array, const char *what, int *count) {
    Datum *elements;
    bool *nulls;
    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
    if (*count > MaxHeapAttributeNumber)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("%s are too many", what)));
    const char **texts = static_cast<const char **>(palloc(sizeof(char *) * static_cast<Size>(Max(*count, 1))));
    if (*count == 0) ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s are empty", what)));
    for (int i = 0; i < *count; i++) {
        if (nulls[i])
            ereport(ERROR,
                    (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("an element of %s must not be NULL", what)));
        texts[i] = TextDatumGetCString(elements[i]);
    }
    return texts;
}

void RequireNoParent(Oid relation) {
    const char *parent = ParentName(relation);
    if (parent == nullptr) return;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("table \"%s\" cannot have a change feed by itself", get_rel_name(relation)),
             errdetail("Statements that name table \"%s\", which is above it, would not be seen.", parent),
             errhint("Call herald.enable_change_feed() for that one, which publishes the changes of its partitions and "
                     "children.")));
}

void RequireColumn(const TableShape &shape, Relation relation, const char *name) {
    if (FindColumn(shape.row, name) >= 0) return;
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                    errmsg("column \"%s\" of table \"%s\" does not exist", name, RelationGetRelationName(relation))));
}

void CheckMessage(const char *message, const TableShape &shape, Relation relation) {
    const std::string_view kind = message;
    if (kind.size() > kLongestTemplate)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the template is too long"),
                        errdetail("It has %zu bytes; at most %zu are allowed.", kind.size(), kLongestTemplate)));
    if (kind == "key" || kind == "diff") {
        if (shape.key_count == 0)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("table \"%s\" has no key to tell its rows apart", RelationGetRelationName(relation)),
                            errhint("Add a primary key, or use message => 'row' or a template.")));
        return;
    }
    if (kind == "row") return;
    if (kind.find('{') == std::string_view::npos)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown kind of message \"%s\"", message),
                        errhint("Known are key, diff, row, and templates as 'orders:{id}:{op}'.")));
    int count;
    const char *problem;
    const TemplatePiece *pieces = ParseTemplate(message, &count, &problem);
    if (pieces == nullptr)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("template \"%s\" is wrong", message),
                        errdetail("In it %s.", problem),
                        errhint("Write \"{{\" and \"}}\" for braces that stand for themselves.")));
    for (int i = 0; i < count; i++)
        if (pieces[i].kind == PieceKind::kColumn) RequireColumn(shape, relation, pieces[i].text);
}

void CheckOptions(Relation relation, const FeedOptions &options) {
    const TableShape &shape = *ShapeOf(relation);
    int count;
    CheckMessage(options.message, shape, relation);
    if (options.columns != 0) {
        const char **names = Elements(options.columns, "columns", &count);
        for (int i = 0; i < count; i++) RequireColumn(shape, relation, names[i]);
    }
    const char **names = Elements(options.operations, "operations", &count);
    for (int i = 0; i < count; i++)
        if (OperationOfName(names[i]) == 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown operation \"%s\"", names[i]),
                            errhint("Known are insert, update, delete and truncate.")));
}

// Returns the feed's id, that of an older one of the same table and channel where there is one.
int32 Store(Oid relation, const FeedOptions &options, int32 channel_id) {
    char *owner = GetUserNameFromId(GetUserId(), false);
    const char *identity = pg::RoleIdentity(GetUserId());
    pg::Param channel = pg::Int4(channel_id);
    channel.is_null = channel_id == 0;
    const int32 id = pg::AsOwner([&] {
        (void)pg::SpiRun(
            "INSERT INTO herald_internal.change_feed_store (relation, channel, channel_id, message, columns, operations, owner, owner_role) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
            "ON CONFLICT (relation, channel) DO UPDATE SET channel_id = EXCLUDED.channel_id, message = EXCLUDED.message, "
            "columns = EXCLUDED.columns, operations = EXCLUDED.operations, owner = EXCLUDED.owner, owner_role = EXCLUDED.owner_role RETURNING id",
            std::array{pg::ObjectId(relation), pg::Text(options.channel), channel, pg::Text(options.message),
                       pg::Param{TEXTARRAYOID, options.columns, options.columns == 0},
                       pg::Param{TEXTARRAYOID, options.operations, false}, pg::Text(owner), pg::Text(identity)});
        return pg::SpiInt4(0, 1);
    });
    InvalidateFeeds();
    return id;
}

bool HasColumn(Oid relation, const char *name) { return get_attnum(relation, name) > InvalidAttrNumber; }

template <std::size_t N>
uint64 RunAsOwner(const char *sql, const std::array<pg::Param, N> &params, int32 *id) {
    return pg::AsOwner([&] {
        const uint64 rows = pg::SpiRun(sql, params);
        if (rows > 0 && id != nullptr) *id = pg::SpiInt4(0, 1);
        return rows;
    });
}

}  // namespace

void EnableFeed(Oid target, const FeedOptions &options) {
    RequireTableOwner(target);
    int count;
    // The lock that CREATE TRIGGER takes, before anything is looked at.
    Oid *tree = LockTree(target, ShareRowExclusiveLock, &count);
    RequireTableOwner(target);
    Relation relation = relation_open(target, NoLock);
    RequireTable(relation);
    RequireNoParent(target);
    CheckOptions(relation, options);
    relation_close(relation, NoLock);
    const int32 channel_id = RequireNotifiable(options.channel, "herald.enable_change_feed()").id;
    const int32 id = Store(target, options, channel_id);
    EnsureTriggers(target, tree, count, TriggersOf(*FindFeed(id)));
}

void DisableFeed(Oid target, const char *channel) {
    RequireTableOwner(target);
    int count;
    int32 id = 0;
    Oid *tree = LockTree(target, ShareRowExclusiveLock, &count);
    RequireTableOwner(target);
    if (RunAsOwner(
            "DELETE FROM herald_internal.change_feed_store WHERE relation = $1::pg_catalog.regclass AND channel = $2 "
            "RETURNING id",
            std::array{pg::ObjectId(target), pg::Text(channel)}, &id) == 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("table \"%s\" has no change feed to channel \"%s\"", get_rel_name(target), channel)));
    InvalidateFeeds();
    (void)RemoveTriggers(tree, count, psprintf("herald_feed_%d", id));
}

const char *FindFeedProblem(const Feed &feed) {
    const char *problem = FindRightsProblem(feed);
    if (problem != nullptr) return problem;
    const char *parent = ParentName(feed.relation);
    if (parent != nullptr)
        return psprintf("changes by statements that name table \"%s\" above it are not published", parent);
    int count;
    // For a view, which waits for nobody: by the catalogs, without a lock.
    const Oid *tree = LockTree(feed.relation, NoLock, &count);
    const TriggerSet set = TriggersOf(feed);
    for (int i = 0; i < count; i++) {
        problem = FindTriggerProblem(tree[i], set);
        if (problem == nullptr) continue;
        const char *name = get_rel_name(tree[i]);
        if (tree[i] == feed.relation) return problem;
        if (name != nullptr) return psprintf("table \"%s\": %s", name, problem);
    }
    AttrNumber key[INDEX_MAX_KEYS];
    if ((feed.message == FeedMessage::kKey || feed.message == FeedMessage::kDiff) &&
        FindKeyColumns(feed.relation, key) == 0)
        return "the table has no key any more";
    for (int i = 0; i < feed.column_count; i++)
        if (!HasColumn(feed.relation, feed.columns[i])) return psprintf("there is no column \"%s\"", feed.columns[i]);
    for (int i = 0; i < feed.piece_count; i++)
        if (feed.pieces[i].kind == PieceKind::kColumn && !HasColumn(feed.relation, feed.pieces[i].text))
            return psprintf("there is no column \"%s\"", feed.pieces[i].text);
    return nullptr;
}

void AdjustMember(const Feed &feed, Oid relation) {
    const TriggerSet set = TriggersOf(feed);
    if (relation == feed.relation) return;
    if (IsInFeed(feed, relation))
        EnsureMemberTriggers(feed.relation, relation, set);
    else
        (void)RemoveTriggers(&relation, 1, set.prefix);
}

void RenameFeedColumn(const Feed &feed, const char *column, const char *new_column) {
    int count = 0;
    bool concerned = false;
    const char *message = feed.message_text;
    if (feed.message == FeedMessage::kTemplate) {
        const char *problem;
        TemplatePiece *pieces = ParseTemplate(feed.message_text, &count, &problem);
        for (int i = 0; i < count && pieces != nullptr; i++) {
            if (pieces[i].kind != PieceKind::kColumn || std::strcmp(pieces[i].text, column) != 0) continue;
            pieces[i].text = new_column;
            concerned = true;
        }
        message = concerned ? TemplateOf(pieces, count) : message;
        // A name that no template can have: then it does not know its column, which herald.change_feeds tells.
        if (message == nullptr) message = feed.message_text;
    }
    for (int i = 0; i < feed.column_count; i++) concerned = concerned || std::strcmp(feed.columns[i], column) == 0;
    if (!concerned) return;
    (void)RunAsOwner(
        "UPDATE herald_internal.change_feed_store SET message = $2, "
        "columns = pg_catalog.array_replace(columns, $3, $4) WHERE id = $1",
        std::array{pg::Int4(feed.id), pg::Text(message), pg::Text(column), pg::Text(new_column)}, nullptr);
    InvalidateFeeds();
}

void ForgetFeed(const Feed &feed) {
    if (RunAsOwner("DELETE FROM herald_internal.change_feed_store WHERE id = $1", std::array{pg::Int4(feed.id)},
                   nullptr) > 0)
        InvalidateFeeds();
}

}  // namespace herald
