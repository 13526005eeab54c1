// See feed_publish.hpp. Messages go out in the order of the first change of each row, over all feeds.

#include "feed/feed_publish.hpp"

#include "change/table_tree.hpp"
#include "channel/channel.hpp"
#include "feed/feed_message.hpp"
#include "pg/clip.hpp"
#include "pg/extension.hpp"
#include "pg/roles.hpp"
#include "publish/payload_schema.hpp"
#include "publish/publish.hpp"
#include "settings.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace herald {

namespace {

constexpr int kBatch = 1000;
constexpr Size kBatchBytes = 8 * 1024 * 1024;

bool (*is_audited)(Oid relation) = nullptr;

// A feed at the end of a transaction.
struct Outlet {
    const Feed *feed;
    FeedNames names;
    Oid owner;
    const char *problem;  // why nothing can be published
    uint64 rejected;
    const char *rejection;  // why the first of these was
    HTAB *texts;            // of a template, as each is published once
};

// Something to publish: a row, or else the TRUNCATE or the bulk of a layer.
struct Item {
    uint64 order;
    Outlet *outlet;
    const NotedLayer *layer;
    const NotedRow *row;
    bool event;
};

struct Items {
    Item *items;
    Size count;
    Size capacity;
};

// Messages of one feed that are published together.
struct Batch {
    Outlet *outlet;
    int count;
    Size bytes;
    NewMessage messages[FLEXIBLE_ARRAY_MEMBER];
};

Oid OwnerOf(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return InvalidOid;
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

// The name stands in a table.
bool NamesChannel(const Feed &feed) {
    const std::size_t length = std::strlen(feed.channel);
    return length > 0 && length < NAMEDATALEN;
}

// The channel with the rights of the feed's owner, who is the current user here; or why it can't be used.
const Channel *ChannelOf(const Feed &feed, const char **problem) {
    if (!NamesChannel(feed)) {
        *problem = "its channel has no name that a channel can have";
        return nullptr;
    }
    const Channel *channel = &LookUpChannel(feed.channel);
    if (feed.channel_id != 0 && channel->id != feed.channel_id) {
        *problem = "the channel was dropped";
        return nullptr;
    }
    if (!MayPublish(*channel)) {
        *problem =
            psprintf("role \"%s\", who made the feed, may not publish there", pg::RoleNameNow(GetUserId(), feed.owner));
        return nullptr;
    }
    if (!channel->declared && static_cast<settings::UndeclaredChannels>(settings::undeclared_channels) ==
                                  settings::UndeclaredChannels::kRefuse) {
        *problem = "the channel is not declared";
        return nullptr;
    }
    return channel;
}

struct Borrowed {
    Oid user;
    int security_context;
};

// Only our own code runs until GiveBack: catalogs are read, and messages written.
Borrowed ActAs(Oid role) {
    Borrowed caller;
    GetUserIdAndSecContext(&caller.user, &caller.security_context);
    SetUserIdAndSecContext(role,
                           caller.security_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    return caller;
}

void GiveBack(const Borrowed &caller) { SetUserIdAndSecContext(caller.user, caller.security_context); }

const char *FindProblem(const Feed &feed, Oid *owner) {
    const char *problem = nullptr;
    *owner = pg::StoredRole(feed.owner, feed.owner_role);
    const Oid table_owner = OwnerOf(feed.relation);
    if (!OidIsValid(table_owner)) return "the table was dropped";
    if (!OidIsValid(*owner)) return psprintf("role \"%s\", who made the feed, was dropped", feed.owner);
    if (!pg::HasRightsOf(*owner, table_owner))
        return psprintf("role \"%s\", who made the feed, does not own the table any more",
                        pg::RoleNameNow(*owner, feed.owner));
    const Borrowed caller = ActAs(*owner);
    (void)ChannelOf(feed, &problem);
    GiveBack(caller);
    return problem;
}

Outlet *MakeOutlet(const Feed *feed) {
    Outlet *outlet = static_cast<Outlet *>(palloc0(sizeof(Outlet)));
    outlet->feed = feed;
    outlet->problem = FindProblem(*feed, &outlet->owner);
    if (!ReadNames(feed->relation, &outlet->names.schema, &outlet->names.table)) return outlet;
    outlet->names.both = psprintf("%s.%s", outlet->names.schema, outlet->names.table);
    outlet->names.audited = is_audited != nullptr && is_audited(feed->relation);
    return outlet;
}

void Reject(Outlet *outlet, const char *why) {
    if (outlet->rejected++ == 0) outlet->rejection = why;
}

Item *AddItem(Items *all) {
    if (all->count == all->capacity) {
        all->capacity = Max(all->capacity * 2, Size{64});
        const Size size = sizeof(Item) * all->capacity;
        all->items = static_cast<Item *>(all->items == nullptr ? palloc(size) : repalloc_huge(all->items, size));
    }
    all->items[all->count] = Item{};
    return &all->items[all->count++];
}

void AddItems(Items *all, Outlet *outlet, const NotedLayer *layer) {
    if (layer->previous != nullptr && !layer->replaces) AddItems(all, outlet, layer->previous);
    const uint8 operations = outlet->feed->operations;
    if ((operations & layer->event) != 0) *AddItem(all) = {layer->order, outlet, layer, nullptr, true};
    if (layer->bulk) *AddItem(all) = {layer->order, outlet, layer, nullptr, false};
    for (uint32 i = 0; i < layer->row_count && !layer->bulk; i++) {
        const NotedRow *row = layer->rows[i];
        if ((operations & row->state.change) != 0 && !IsUnchanged(*outlet->feed, *row))
            *AddItem(all) = {row->order, outlet, layer, row, false};
    }
}

int CompareItems(const void *a, const void *b) {
    auto *left = static_cast<const Item *>(a);
    auto *right = static_cast<const Item *>(b);
    if (left->order != right->order) return left->order < right->order ? -1 : 1;
    // Within a layer the event that it begins with comes first.
    return static_cast<int>(right->event) - static_cast<int>(left->event);
}

void Flush(Batch *batch) {
    if (batch->count == 0) return;
    const char *problem = nullptr;
    const Borrowed caller = ActAs(batch->outlet->owner);
    const Channel *channel = ChannelOf(*batch->outlet->feed, &problem);
    int64 ids[kBatch];
    if (channel != nullptr) PublishBatch(*channel, batch->messages, ids, batch->count);
    GiveBack(caller);
    for (int i = 0; i < batch->count; i++) {
        if (channel == nullptr) Reject(batch->outlet, problem);
        pfree(DatumGetPointer(batch->messages[i].payload));
        if (batch->messages[i].key != 0) pfree(DatumGetPointer(batch->messages[i].key));
    }
    batch->count = 0;
    batch->bytes = 0;
}

// Changes of one row are handled one after the other. Of a key that is too long for a message, the rest becomes a hash.
Datum OrderKey(const Outlet &outlet, const NotedRow *row) {
    StringInfoData key;
    if (row == nullptr || row->key == nullptr) return static_cast<Datum>(0);
    initStringInfo(&key);
    appendStringInfo(&key, "%s ", outlet.names.both);
    (void)JsonbToCString(&key, &row->key->root, static_cast<int>(VARSIZE(row->key)));
    const char *text = key.data;
    if (key.len > static_cast<int>(kLongestKey)) {
        constexpr int kHashLength = 17;
        const uint64 hash = hash_bytes_extended(reinterpret_cast<const unsigned char *>(key.data), key.len, 0);
        text = psprintf("%s %016llx", pg::ClipText(key.data, static_cast<int>(kLongestKey) - kHashLength),
                        static_cast<unsigned long long>(hash));
    }
    Datum datum = PointerGetDatum(cstring_to_text(text));
    pfree(key.data);
    return datum;
}

// False, and noted why, where the channel would refuse it. As the feed's owner.
bool IsWelcome(Outlet *outlet, const Channel &channel, const Jsonb *payload) {
    if (payload == nullptr || VARSIZE(payload) - VARHDRSZ > LargestPayload(channel)) {
        Reject(outlet, "the message is too large");
        return false;
    }
    if (!FitsPayloadSchema(channel, JsonbPGetDatum(payload))) {
        Reject(outlet, "the message does not fit the channel's schema");
        return false;
    }
    if (LogIsFull(channel)) {
        Reject(outlet, "the log of messages has reached herald.max_log_size");
        return false;
    }
    return true;
}

// True where the text was not published by this transaction yet.
bool IsNewText(Outlet *outlet, const char *text) {
    uint64 hash =
        hash_bytes_extended(reinterpret_cast<const unsigned char *>(text), static_cast<int>(std::strlen(text)), 0);
    if (outlet->texts == nullptr) {
        HASHCTL control{};
        control.keysize = control.entrysize = sizeof(uint64);
        control.hcxt = CurrentMemoryContext;
        outlet->texts = hash_create("pg_herald change texts", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
    bool found;
    (void)hash_search(outlet->texts, &hash, HASH_ENTER, &found);
    return !found;
}

void PublishText(Outlet *outlet, const NotedRow *row, const char *text, JsonBuffer *buffer) {
    if (text == nullptr) return Reject(outlet, "a column of the template is missing");
    if (!IsNewText(outlet, text)) return;
    // A string as such is an array of one.
    ResetJsonBuffer(buffer);
    JsonStart start = BeginContainer(buffer, JB_FARRAY | JB_FSCALAR, 1);
    SetEntry(buffer, &start, AppendString(buffer, text, std::strlen(text)));
    (void)EndContainer(buffer, start);
    const Jsonb *payload = FinishJson(buffer);
    const NewMessage message = {JsonbPGetDatum(payload), OrderKey(*outlet, row), static_cast<Datum>(0)};
    const char *problem = nullptr;
    const Borrowed caller = ActAs(outlet->owner);
    const Channel *channel = ChannelOf(*outlet->feed, &problem);
    if (channel == nullptr)
        Reject(outlet, problem);
    else if (IsWelcome(outlet, *channel, payload))
        (void)Publish(*channel, message, std::strlen(text) > kLongestNotify ? nullptr : text);
    GiveBack(caller);
}

void AddMessage(Batch *batch, Outlet *outlet, const Item &item, JsonBuffer *buffer) {
    const char *problem = nullptr;
    const Borrowed caller = ActAs(outlet->owner);
    const Channel *channel = ChannelOf(*outlet->feed, &problem);
    bool welcome = false;
    Jsonb *payload = nullptr;
    if (channel == nullptr) {
        Reject(outlet, problem);
    } else {
        if (item.row != nullptr)
            payload = RowMessage(buffer, *outlet->feed, outlet->names, *item.row, LargestPayload(*channel));
        else if (!item.event)
            payload = BulkMessage(buffer, *outlet->feed, outlet->names, TotalCounts(item.layer));
        else
            payload = EventMessage(buffer, outlet->names, item.layer->event_name, item.layer->partition);
        const bool nothing = payload == nullptr && item.row == nullptr;
        welcome = !nothing && IsWelcome(outlet, *channel, payload);
    }
    GiveBack(caller);
    if (!welcome) return;
    if (batch->count == kBatch || batch->bytes > kBatchBytes || batch->outlet != outlet) Flush(batch);
    batch->bytes += VARSIZE(payload);
    batch->outlet = outlet;
    void *copy = palloc(VARSIZE(payload));
    std::memcpy(copy, payload, VARSIZE(payload));
    batch->messages[batch->count++] = {PointerGetDatum(copy), OrderKey(*outlet, item.row), static_cast<Datum>(0)};
}

void PublishItem(Batch *batch, const Item &item, JsonBuffer *buffer) {
    Outlet *outlet = item.outlet;
    if (outlet->problem != nullptr) return Reject(outlet, outlet->problem);
    if (outlet->feed->message != FeedMessage::kTemplate || item.row == nullptr)
        return AddMessage(batch, outlet, item, buffer);
    Flush(batch);
    // A cache entry under the old values is out of date as well.
    const RowState &state = item.row->state;
    if (state.change == kDeleted || (state.change == kUpdated && state.old != nullptr))
        PublishText(outlet, item.row, TemplateText(*outlet->feed, outlet->names, *item.row, true), buffer);
    if (state.change != kDeleted)
        PublishText(outlet, item.row, TemplateText(*outlet->feed, outlet->names, *item.row, false), buffer);
}

void ReportRejected(const Outlet &outlet) {
    const Feed &feed = *outlet.feed;
    if (outlet.rejected == 0) return;
    if (NamesChannel(feed))
        CountNow(CountersOf(LookUpChannel(feed.channel)), ChannelCounter::kRejected, outlet.rejected);
    ereport(WARNING,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg_plural("%lu change of table \"%s\" is not published to channel \"%s\"",
                           "%lu changes of table \"%s\" are not published to channel \"%s\"",
                           static_cast<unsigned long>(outlet.rejected), static_cast<unsigned long>(outlet.rejected),
                           outlet.names.both == nullptr ? "?" : outlet.names.both, feed.channel),
             errdetail("The reason is: %s.", outlet.rejection),
             errhint("See herald.change_feeds; herald.disable_change_feed() ends it.")));
}

void PublishNotes() {
    MemoryContext context =
        AllocSetContextCreate(TopTransactionContext, "pg_herald change messages", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    Items all{};
    List *outlets = NIL;
    for (FeedNotes *notes = AllNotes(); notes != nullptr; notes = notes->next) {
        // A feed that was disabled meanwhile publishes nothing more.
        if (notes->top == nullptr || FindFeed(notes->feed->id) == nullptr) continue;
        Outlet *outlet = MakeOutlet(notes->feed);
        outlets = lcons(outlet, outlets);
        AddItems(&all, outlet, notes->top);
    }
    qsort(all.items, all.count, sizeof(Item), CompareItems);
    // Most transactions have one: room for all would cost more than that.
    const Size room = Min(all.count, Size{kBatch});
    Batch *batch = static_cast<Batch *>(palloc(offsetof(Batch, messages) + sizeof(NewMessage) * room));
    batch->outlet = nullptr;
    batch->count = 0;
    batch->bytes = 0;
    JsonBuffer buffer;
    InitJsonBuffer(&buffer, context);
    for (Size i = 0; i < all.count; i++) {
        CHECK_FOR_INTERRUPTS();
        PublishItem(batch, all.items[i], &buffer);
    }
    Flush(batch);
    ListCell *cell;
    foreach (cell, outlets) ReportRejected(*static_cast<Outlet *>(lfirst(cell)));
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(context);
}

void PublishAll() {
    if (AllNotes() == nullptr) return;
    // It may have been dropped by this transaction.
    if (!pg::TablesKnown() && !pg::ExtensionExists()) return;
    PushActiveSnapshot(GetTransactionSnapshot());
    PublishNotes();
    PopActiveSnapshot();
}

void Forget() {
    ForgetNotes();
    ForgetFeedTables();
}

}  // namespace

const pg::TransactionPart kFeedsPart = {.before_commit = PublishAll,
                                        .before_prepare = PublishAll,
                                        .committed = Forget,
                                        .prepared = Forget,
                                        .aborted = Forget,
                                        .sub_committed = KeepNotes,
                                        .sub_aborted = DropNotes};

const char *FindRightsProblem(const Feed &feed) {
    Oid owner;
    return FindProblem(feed, &owner);
}

bool MaySeeFeed(const Feed &feed) {
    const Oid table_owner = OwnerOf(feed.relation);
    return pg::HasRightsOf(GetUserId(), pg::StoredRole(feed.owner, feed.owner_role)) ||
           (OidIsValid(table_owner) && pg::HasRightsOf(GetUserId(), table_owner));
}

void InitFeeds(bool (*audited)(Oid relation)) { is_audited = audited; }

}  // namespace herald
