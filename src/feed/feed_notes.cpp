// See feed_notes.hpp. All memory is of the transaction; what the callbacks of savepoints do can't fail.

#include "feed/feed_notes.hpp"

#include "settings.hpp"

extern "C" {
#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

// However few rows that are.
constexpr Size kMaxBytes = 64 * 1024 * 1024;
constexpr uint32 kFirstBuckets = 16;

FeedNotes *all_notes = nullptr;
FeedNotes *latest = nullptr;
uint64 next_order = 0;

template <class Item>
void Reserve(MemoryContext context, Item **items, uint32 count, uint32 *capacity) {
    if (count < *capacity) return;
    const uint32 wanted = *capacity == 0 ? 8 : *capacity * 2;
    const Size size = sizeof(Item) * static_cast<Size>(wanted);
    *items = static_cast<Item *>(*items == nullptr ? MemoryContextAlloc(context, size) : repalloc_huge(*items, size));
    *capacity = wanted;
}

uint32 HashOf(const Jsonb *key) {
    return hash_bytes(reinterpret_cast<const unsigned char *>(key), static_cast<int>(VARSIZE(key)));
}

void MakeBuckets(NotedLayer *layer, uint32 count) {
    auto *buckets =
        static_cast<NotedRow **>(MemoryContextAllocZero(layer->context, sizeof(NotedRow *) * static_cast<Size>(count)));
    if (layer->buckets != nullptr) pfree(layer->buckets);
    layer->buckets = buckets;
    layer->bucket_count = count;
    for (uint32 i = 0; i < layer->row_count; i++) {
        NotedRow *row = layer->rows[i];
        if (row->key == nullptr) continue;
        row->next = buckets[row->hash % count];
        buckets[row->hash % count] = row;
    }
}

NotedLayer *PushLayer(FeedNotes *notes) {
    MemoryContext context =
        AllocSetContextCreate(TopTransactionContext, "pg_herald change notes", ALLOCSET_SMALL_SIZES);
    auto *layer = static_cast<NotedLayer *>(MemoryContextAllocZero(context, sizeof(NotedLayer)));
    layer->context = context;
    layer->subtransaction = GetCurrentSubTransactionId();
    layer->previous = notes->top;
    layer->order = next_order++;
    notes->top = layer;
    return layer;
}

RowCounts *CountsOf(NotedLayer *layer) {
    const SubTransactionId own = GetCurrentSubTransactionId();
    if (layer->count_count > 0 && layer->counts[layer->count_count - 1].subtransaction == own)
        return &layer->counts[layer->count_count - 1];
    Reserve(layer->context, &layer->counts, layer->count_count, &layer->count_capacity);
    layer->counts[layer->count_count] = RowCounts{own, 0, 0, 0};
    return &layer->counts[layer->count_count++];
}

void Add(RowCounts *to, const RowCounts &more) {
    to->inserted += more.inserted;
    to->updated += more.updated;
    to->deleted += more.deleted;
}

// Those of all layers that are to be published.
uint64 RowsKept(const FeedNotes *notes) {
    uint64 rows = 0;
    for (const NotedLayer *layer = notes->top; layer != nullptr; layer = layer->previous) {
        rows += layer->row_count;
        if (layer->replaces) break;
    }
    return rows;
}

Jsonb *Keep(NotedLayer *layer, const Jsonb *value) {
    if (value == nullptr || GetMemoryChunkContext(const_cast<Jsonb *>(value)) == layer->context)
        return const_cast<Jsonb *>(value);
    void *copy = MemoryContextAllocHuge(layer->context, VARSIZE(value));
    std::memcpy(copy, value, VARSIZE(value));
    layer->bytes += VARSIZE(value);
    return static_cast<Jsonb *>(copy);
}

// None of these can fail.

void Free(NotedLayer *layer, Jsonb *value) {
    if (value == nullptr) return;
    layer->bytes -= VARSIZE(value);
    pfree(value);
}

// Frees the new image of a state, unless another one of the same row has it. (The old image stays: others may have it.)
void DropNow(NotedLayer *layer, const RowState &state, const RowState &other) {
    if (state.now != other.now) Free(layer, state.now);
}

void DropLayer(FeedNotes *notes) {
    NotedLayer *gone = notes->top;
    notes->top = gone->previous;
    MemoryContextDelete(gone->context);
}

void Unlink(NotedLayer *layer, NotedRow *row) {
    if (row->key == nullptr) return;
    NotedRow **place = &layer->buckets[row->hash % layer->bucket_count];
    while (*place != row) place = &(*place)->next;
    *place = row->next;
}

void TakeBack(NotedLayer *layer, SubTransactionId own) {
    while (layer->saved_count > 0 && layer->saved[layer->saved_count - 1].after >= own) {
        const SavedState &saved = layer->saved[--layer->saved_count];
        DropNow(layer, saved.row->state, saved.state);
        saved.row->state = saved.state;
        saved.row->subtransaction = saved.before;
    }
    // The rest of the subtransaction's changes were the first ones of their rows. These rows are last.
    while (layer->row_count > 0 && layer->rows[layer->row_count - 1]->subtransaction >= own) {
        NotedRow *row = layer->rows[--layer->row_count];
        Unlink(layer, row);
        Free(layer, row->key);
        Free(layer, row->state.old);
        Free(layer, row->state.now);
        pfree(row);
    }
    while (layer->count_count > 0 && layer->counts[layer->count_count - 1].subtransaction >= own) layer->count_count--;
}

void HandToParent(NotedLayer *layer, SubTransactionId own, SubTransactionId parent) {
    uint32 first = layer->saved_count;
    while (first > 0 && layer->saved[first - 1].after == own) first--;
    uint32 kept = first;
    for (uint32 i = first; i < layer->saved_count; i++) {
        SavedState saved = layer->saved[i];
        saved.row->subtransaction = parent;
        if (saved.before == parent) {
            DropNow(layer, saved.state, saved.row->state);
        } else {
            saved.after = parent;
            layer->saved[kept++] = saved;
        }
    }
    layer->saved_count = kept;
    for (uint32 i = layer->row_count; i > 0 && layer->rows[i - 1]->subtransaction == own; i--)
        layer->rows[i - 1]->subtransaction = parent;
    if (layer->count_count == 0 || layer->counts[layer->count_count - 1].subtransaction != own) return;
    RowCounts *last = &layer->counts[layer->count_count - 1];
    last->subtransaction = parent;
    if (layer->count_count > 1 && last[-1].subtransaction == parent) {
        Add(&last[-1], *last);
        layer->count_count--;
    }
}

// Layers that can't come back.
void DropReplaced(NotedLayer *layer) {
    while (layer->replaces && layer->previous != nullptr && layer->previous->subtransaction >= layer->subtransaction) {
        NotedLayer *gone = layer->previous;
        layer->previous = gone->previous;
        MemoryContextDelete(gone->context);
    }
}

NotedLayer *BeginWith(FeedNotes *notes, uint8 event, const char *name, Oid partition) {
    NotedLayer *layer = PushLayer(notes);
    layer->event = event;
    layer->event_name = name;
    // It may be gone when it is published.
    if (OidIsValid(partition))
        layer->partition = MemoryContextStrdup(
            layer->context,
            psprintf("%s.%s", get_namespace_name(get_rel_namespace(partition)), get_rel_name(partition)));
    return layer;
}

}  // namespace

FeedNotes *AllNotes() { return all_notes; }

FeedNotes *NotesOf(const Feed *feed) {
    FeedNotes *notes = latest;
    // By its id: what was noted first decides what is kept, also where the feed is changed meanwhile.
    if (notes == nullptr || notes->feed->id != feed->id)
        for (notes = all_notes; notes != nullptr && notes->feed->id != feed->id;) notes = notes->next;
    if (notes == nullptr) {
        notes = static_cast<FeedNotes *>(MemoryContextAllocZero(TopTransactionContext, sizeof(FeedNotes)));
        notes->feed = feed;
        notes->next = all_notes;
        all_notes = notes;
    }
    if (notes->top == nullptr) PushLayer(notes)->replaces = true;
    latest = notes;
    return notes;
}

void CountRows(FeedNotes *notes, RowChange change, uint64 rows) {
    RowCounts *counts = CountsOf(notes->top);
    if (change == kInserted) counts->inserted += rows;
    if (change == kUpdated) counts->updated += rows;
    if (change == kDeleted) counts->deleted += rows;
}

RowCounts TotalCounts(const NotedLayer *layer) {
    RowCounts total{};
    for (uint32 i = 0; i < layer->count_count; i++) Add(&total, layer->counts[i]);
    return total;
}

NotedRow *FindRow(const FeedNotes *notes, const Jsonb *key) {
    const NotedLayer *layer = notes->top;
    if (layer->bucket_count == 0) return nullptr;
    const uint32 hash = HashOf(key);
    for (NotedRow *row = layer->buckets[hash % layer->bucket_count]; row != nullptr; row = row->next)
        if (row->hash == hash && VARSIZE(row->key) == VARSIZE(key) && std::memcmp(row->key, key, VARSIZE(key)) == 0)
            return row;
    return nullptr;
}

void NoteRow(FeedNotes *notes, NotedRow *row, const Jsonb *key, const RowState &given) {
    NotedLayer *layer = notes->top;
    const SubTransactionId own = GetCurrentSubTransactionId();
    // All that may fail comes first.
    RowState state = given;
    state.old = Keep(layer, given.old);
    state.now = Keep(layer, given.now);
    if (row != nullptr) {
        if (row->subtransaction != own) {
            Reserve(layer->context, &layer->saved, layer->saved_count, &layer->saved_capacity);
            layer->saved[layer->saved_count++] = {row, row->state, row->subtransaction, own};
            row->subtransaction = own;
        } else {
            DropNow(layer, row->state, state);
        }
        row->state = state;
        return;
    }
    if (layer->row_count >= layer->bucket_count) MakeBuckets(layer, Max(layer->bucket_count * 2, kFirstBuckets));
    Reserve(layer->context, &layer->rows, layer->row_count, &layer->row_capacity);
    row = static_cast<NotedRow *>(MemoryContextAllocZero(layer->context, sizeof(NotedRow)));
    row->key = Keep(layer, key);
    row->order = next_order++;
    row->subtransaction = own;
    row->state = state;
    if (key != nullptr) {
        row->hash = HashOf(key);
        row->next = layer->buckets[row->hash % layer->bucket_count];
        layer->buckets[row->hash % layer->bucket_count] = row;
    }
    layer->rows[layer->row_count++] = row;
}

bool HasRoom(const FeedNotes *notes, int64 more_rows) {
    return RowsKept(notes) + static_cast<uint64>(more_rows) <= static_cast<uint64>(settings::change_feed_bulk_limit) &&
           notes->top->bytes < kMaxBytes;
}

void BeginBulk(FeedNotes *notes) {
    RowCounts total{};
    bool truncated = false;
    uint64 order = notes->top->order;
    for (const NotedLayer *layer = notes->top; layer != nullptr; layer = layer->previous) {
        Add(&total, TotalCounts(layer));
        truncated = truncated || (layer->event == kTruncated && layer->partition == nullptr);
        order = layer->order;
        if (layer->replaces) break;
    }
    NotedLayer *layer = PushLayer(notes);
    layer->bulk = layer->replaces = true;
    layer->event = truncated ? kTruncated : kNoChange;
    layer->event_name = "truncate";
    layer->order = order;
    Add(CountsOf(layer), total);
    DropReplaced(layer);
}

void NoteTruncate(FeedNotes *notes, Relation partition) {
    const bool whole = partition == nullptr;
    if (notes->top->bulk && !whole) return;
    // Its partitions come after the table.
    if (notes->top->event == kTruncated && notes->top->partition == nullptr && notes->top->row_count == 0 && !whole)
        return;
    NotedLayer *layer = BeginWith(notes, kTruncated, "truncate", whole ? InvalidOid : RelationGetRelid(partition));
    layer->replaces = whole;
    DropReplaced(layer);
}

void NotePartition(FeedNotes *notes, Oid partition, PartitionChange change) {
    constexpr const char *kNames[] = {"attach", "detach", "drop"};
    (void)BeginWith(notes, change == PartitionChange::kAttached ? kInserted : kDeleted,
                    kNames[static_cast<int>(change)], partition);
}

void ForgetNotes() {
    all_notes = latest = nullptr;
    next_order = 0;
}

void KeepNotes(SubTransactionId own, SubTransactionId parent) {
    for (FeedNotes *notes = all_notes; notes != nullptr; notes = notes->next)
        for (NotedLayer *layer = notes->top; layer != nullptr; layer = layer->previous) {
            if (layer->subtransaction == own) layer->subtransaction = parent;
            HandToParent(layer, own, parent);
            DropReplaced(layer);
        }
}

void DropNotes(SubTransactionId own) {
    for (FeedNotes *notes = all_notes; notes != nullptr; notes = notes->next) {
        while (notes->top != nullptr && notes->top->subtransaction >= own) DropLayer(notes);
        for (NotedLayer *layer = notes->top; layer != nullptr; layer = layer->previous) TakeBack(layer, own);
    }
}

}  // namespace herald
