// See feed.hpp. The cache belongs to an epoch, which any change of the catalogs of herald ends. A stale feed
// goes with the transaction's memory, because somebody may still use it.

#include "feed/feed.hpp"

#include "change/table_tree.hpp"
#include "pg/epoch.hpp"
#include "pg/arguments.hpp"
#include "pg/extension.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

// Columns of herald_internal.change_feed_store, in the order of the script.
enum StoreColumn : AttrNumber {
    kId = 1,
    kRelation,
    kChannel,
    kChannelId,
    kMessage,
    kColumns,
    kOperations,
    kOwner,
    kCreatedAt,
    kOwnerRole,
};

struct CachedFeed {
    int32 id;
    MemoryContext context;
    Feed *feed;  // NULL: there is none
};

HTAB *cache = nullptr;
pg::Epoch epoch;
pg::Stamp cache_stamp = {};
bool registered = false;

void Forget() { epoch.End(); }

FeedMessage MessageOfText(const char *text) {
    if (std::strcmp(text, "key") == 0) return FeedMessage::kKey;
    if (std::strcmp(text, "diff") == 0) return FeedMessage::kDiff;
    if (std::strcmp(text, "row") == 0) return FeedMessage::kRow;
    return FeedMessage::kTemplate;
}

void Unpack(HeapTuple tuple, TupleDesc descriptor, Feed *feed) {
    bool is_null;
    auto get = [&](StoreColumn column) { return heap_getattr(tuple, column, descriptor, &is_null); };
    *feed = Feed{};
    feed->id = DatumGetInt32(get(kId));
    feed->relation = DatumGetObjectId(get(kRelation));
    feed->channel = TextDatumGetCString(get(kChannel));
    const Datum channel_id = get(kChannelId);
    feed->channel_id = is_null ? 0 : DatumGetInt32(channel_id);
    feed->message_text = TextDatumGetCString(get(kMessage));
    feed->message = MessageOfText(feed->message_text);
    const Datum columns = get(kColumns);
    if (!is_null) feed->columns = pg::TextElements(columns, &feed->column_count);
    int count;
    const char **names = pg::TextElements(get(kOperations), &count);
    for (int i = 0; i < count; i++) feed->operations |= OperationOfName(names[i]);
    feed->owner = TextDatumGetCString(get(kOwner));
    const Datum owner_role = get(kOwnerRole);
    if (!is_null) feed->owner_role = TextDatumGetCString(owner_role);
    const char *problem;
    if (feed->message == FeedMessage::kTemplate)
        feed->pieces = ParseTemplate(feed->message_text, &feed->piece_count, &problem);
}

Oid StoreOid(const char *name) { return get_relname_relid(name, pg::Tables().internal); }

Feed *Load(int32 id) {
    Feed *feed = nullptr;
    ScanKeyData key;
    ScanKeyInit(&key, kId, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
    Relation table = pg::OpenTable(StoreOid("change_feed_store"), AccessShareLock, kChangeFeedForm);
    SysScanDesc scan = systable_beginscan(table, StoreOid("change_feed_store_pkey"), true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) {
        feed = static_cast<Feed *>(palloc(sizeof(Feed)));
        Unpack(tuple, RelationGetDescr(table), feed);
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return feed;
}

// A stale cache goes with the transaction.
void PrepareCache() {
    if (!registered) pg::OnCatalogChange(Forget);
    registered = true;
    if (cache != nullptr && epoch.Is(cache_stamp)) return;
    if (cache != nullptr) {
        HASH_SEQ_STATUS scan;
        hash_seq_init(&scan, cache);
        while (auto *cached = static_cast<CachedFeed *>(hash_seq_search(&scan)))
            if (cached->context != nullptr) MemoryContextSetParent(cached->context, TopTransactionContext);
        hash_destroy(cache);
        cache = nullptr;
    }
    HASHCTL control{};
    control.keysize = sizeof(int32);
    control.entrysize = sizeof(CachedFeed);
    control.hcxt = TopMemoryContext;
    cache = hash_create("pg_herald change feeds", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    cache_stamp = epoch.Now();
}

}  // namespace

const Feed *FindFeed(int32 id) {
    // Oids first: the callback that ends the epoch depends on them.
    (void)pg::Tables();
    PrepareCache();
    if (auto *cached = static_cast<CachedFeed *>(hash_search(cache, &id, HASH_FIND, nullptr))) return cached->feed;
    MemoryContext context = AllocSetContextCreate(TopTransactionContext, "pg_herald change feed", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    Feed *feed = Load(id);
    MemoryContextSwitchTo(caller);
    // A change that was heard of while the feed was read makes it stale at once.
    if (!epoch.Is(cache_stamp)) return feed;
    auto *cached = static_cast<CachedFeed *>(hash_search(cache, &id, HASH_ENTER, nullptr));
    cached->context = context;
    cached->feed = feed;
    MemoryContextSetParent(context, TopMemoryContext);
    return feed;
}

const Feed *ReadFeeds(int *count) {
    int room = 16;
    *count = 0;
    auto *feeds = static_cast<Feed *>(palloc(sizeof(Feed) * 16));
    // The script of the extension may be just running: then not all of it is there.
    const Oid schema = pg::InternalSchema();
    const Oid store = OidIsValid(schema) ? get_relname_relid("change_feed_store", schema) : InvalidOid;
    const Oid index = OidIsValid(schema) ? get_relname_relid("change_feed_store_pkey", schema) : InvalidOid;
    if (!OidIsValid(store) || !OidIsValid(index)) return feeds;
    Relation table = pg::OpenTable(store, AccessShareLock, kChangeFeedForm);
    Relation by_id = index_open(index, AccessShareLock);
    SysScanDesc scan = systable_beginscan_ordered(table, by_id, nullptr, 0, nullptr);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection));) {
        if (*count == room) {
            room *= 2;
            feeds = static_cast<Feed *>(repalloc(feeds, sizeof(Feed) * static_cast<Size>(room)));
        }
        Unpack(tuple, RelationGetDescr(table), &feeds[(*count)++]);
    }
    systable_endscan_ordered(scan);
    index_close(by_id, AccessShareLock);
    table_close(table, AccessShareLock);
    return feeds;
}

TemplatePiece *ParseTemplate(const char *text, int *count, const char **problem) {
    const Size length = std::strlen(text);
    auto *pieces = static_cast<TemplatePiece *>(palloc(sizeof(TemplatePiece) * (length + 1)));
    char *literal = static_cast<char *>(palloc(length + 1));
    Size literal_length = 0;
    *count = 0;
    *problem = nullptr;
    auto end_literal = [&] {
        if (literal_length == 0) return;
        pieces[(*count)++] = {PieceKind::kText, pnstrdup(literal, literal_length)};
        literal_length = 0;
    };
    for (const char *at = text; *at != '\0'; at++) {
        if ((*at == '{' || *at == '}') && at[1] == *at) {
            literal[literal_length++] = *at++;
        } else if (*at == '}') {
            *problem = "a \"}\" has no \"{\" before it";
            return nullptr;
        } else if (*at == '{') {
            const char *end = std::strchr(at, '}');
            if (end == nullptr || end == at + 1) {
                *problem = end == nullptr ? "a \"{\" has no \"}\" after it" : "\"{}\" names no column";
                return nullptr;
            }
            end_literal();
            const char *name = pnstrdup(at + 1, static_cast<Size>(end - at - 1));
            const std::string_view view = name;
            const PieceKind kind = view == "op"       ? PieceKind::kOperation
                                   : view == "table"  ? PieceKind::kTable
                                   : view == "schema" ? PieceKind::kSchema
                                                      : PieceKind::kColumn;
            pieces[(*count)++] = {kind, name};
            at = end;
        } else {
            literal[literal_length++] = *at;
        }
    }
    end_literal();
    return pieces;
}

const char *TemplateOf(const TemplatePiece *pieces, int count) {
    StringInfoData text;
    initStringInfo(&text);
    for (int i = 0; i < count; i++) {
        const TemplatePiece &piece = pieces[i];
        if (piece.kind != PieceKind::kText) {
            if (std::strchr(piece.text, '}') != nullptr || piece.text[0] == '{') return nullptr;
            appendStringInfo(&text, "{%s}", piece.text);
            continue;
        }
        for (const char *at = piece.text; *at != '\0'; at++) {
            if (*at == '{' || *at == '}') appendStringInfoChar(&text, *at);
            appendStringInfoChar(&text, *at);
        }
    }
    // A column that is now called op, say.
    int count_again;
    const char *problem;
    const TemplatePiece *again = ParseTemplate(text.data, &count_again, &problem);
    if (again == nullptr || count_again != count) return nullptr;
    for (int i = 0; i < count; i++)
        if (again[i].kind != pieces[i].kind) return nullptr;
    return text.data;
}

uint8 OperationOfName(const char *name) {
    for (uint8 operation : {kInserted, kUpdated, kDeleted, kTruncated})
        if (std::strcmp(name, NameOfOperation(operation)) == 0) return operation;
    return 0;
}

const char *NameOfOperation(uint8 operation) {
    switch (operation) {
        case kInserted:
            return "insert";
        case kUpdated:
            return "update";
        case kDeleted:
            return "delete";
        default:
            return "truncate";
    }
}

TriggerSet TriggersOf(const Feed &feed) {
    // To know what became of a row takes all of them.
    const bool rows = (feed.operations & (kInserted | kUpdated | kDeleted)) != 0;
    return {psprintf("herald_feed_%d", feed.id), "feed", psprintf("%d", feed.id), rows, rows, rows, true};
}

bool IsInFeed(const Feed &feed, Oid relation) { return relation == feed.relation || IsAbove(feed.relation, relation); }

void InvalidateFeeds() {
    epoch.End();
    pg::InvalidateCatalogCaches();
}

}  // namespace herald
