// The triggers of change feeds. They only note which rows have changed; see feed_publish.cpp for what becomes of it.
//
// Rows are converted as the user who changes them. What is converted is what the message needs: the key, and old
// and new values of the columns that are published. A conversion may run code of users, a cast to json, which may
// write to tables with feeds, this one too: so all that is used across it is on the stack or in the notes, which are
// looked at anew after it.

#include "pg/pg.hpp"

#include "change/row_recording.hpp"
#include "change/trigger_call.hpp"
#include "feed/feed_notes.hpp"
#include "pg/guard.hpp"
#include "pg/told_once.hpp"
#include "settings.hpp"

extern "C" {
#include "access/table.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

// A feed's view of a relation, for the rest of the transaction.
struct FeedTable {
    FeedTable *next;
    const Feed *feed;
    const TableShape *shape;
    bool enrolled;
    const int16 *key;  // indexes of columns in the shape, ascending
    int key_count;
    const int16 *watched;
    int watched_count;
    const int16 *kept;  // of the images
    int kept_count;
};

// A change of one row, with what of it was converted so far.
struct RowNote {
    FeedNotes *notes;
    const FeedTable *table;
    RowChange change;
    const RowValues *old;  // NULL: none
    const RowValues *now;
    Jsonb *key;
    bool old_made;
    bool now_made;
    Jsonb *old_image;
    Jsonb *now_image;
};

FeedTable *tables = nullptr;

int CompareIndexes(const void *a, const void *b) {
    return *static_cast<const int16 *>(a) - *static_cast<const int16 *>(b);
}

// The indexes of columns by their names; those that are not there are left out.
template <class NameAt>
const int16 *IndexesOf(const TableShape &shape, int count, NameAt name_at, int *found) {
    auto *indexes = static_cast<int16 *>(
        MemoryContextAlloc(TopTransactionContext, sizeof(int16) * static_cast<Size>(Max(count, 1))));
    *found = 0;
    for (int i = 0; i < count; i++) {
        const char *name = name_at(i);
        const int index = name == nullptr ? -1 : FindColumn(shape.row, name);
        if (index >= 0) indexes[(*found)++] = static_cast<int16>(index);
    }
    qsort(indexes, static_cast<size_t>(*found), sizeof(int16), CompareIndexes);
    int kept = 0;
    for (int i = 0; i < *found; i++)
        if (kept == 0 || indexes[kept - 1] != indexes[i]) indexes[kept++] = indexes[i];
    *found = kept;
    return indexes;
}

bool Contains(const int16 *all, int all_count, const int16 *some, int some_count) {
    for (int i = 0; i < some_count; i++) {
        bool found = false;
        for (int j = 0; j < all_count; j++) found = found || all[j] == some[i];
        if (!found) return false;
    }
    return true;
}

// Rows of partitions and children have the key of the feed's table. That one is not locked: who wants both locks it before
// those below, and might wait for this transaction.
void FindKey(FeedTable *table, Relation relation) {
    const TableShape &shape = *table->shape;
    const Oid root = table->feed->relation;
    table->key = shape.key;
    table->key_count = shape.key_count;
    if (RelationGetRelid(relation) == root) return;
    AttrNumber numbers[INDEX_MAX_KEYS];
    const int count = FindKeyColumns(root, numbers);
    table->key = IndexesOf(
        shape, count, [&](int i) { return get_attname(root, numbers[i], true); }, &table->key_count);
    if (table->key_count != count) table->key_count = 0;
}

void FindColumns(FeedTable *table) {
    const Feed &feed = *table->feed;
    const TableShape &shape = *table->shape;
    table->watched = shape.row.all;
    table->watched_count = shape.row.column_count;
    if (feed.column_count > 0)
        table->watched = IndexesOf(
            shape, feed.column_count, [&](int i) { return feed.columns[i]; }, &table->watched_count);
    if (feed.message == FeedMessage::kTemplate) {
        table->kept = IndexesOf(
            shape, feed.piece_count,
            [&](int i) { return feed.pieces[i].kind == PieceKind::kColumn ? feed.pieces[i].text : nullptr; },
            &table->kept_count);
        // The key says it all.
        if (table->key_count > 0 && Contains(table->key, table->key_count, table->kept, table->kept_count))
            table->kept_count = 0;
    } else if (feed.message != FeedMessage::kKey) {
        table->kept = table->watched;
        table->kept_count = table->watched_count;
    }
}

void ReportStranger(const Feed *feed, const char *id, Relation relation) {
    static pg::ToldOnce told;
    if (!told.IsFirst(RelationGetRelid(relation))) return;
    const char *table = feed == nullptr ? nullptr : get_rel_name(feed->relation);
    ereport(WARNING, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                      errmsg("changes of table \"%s\" are not published", RelationGetRelationName(relation)),
                      errdetail("Its triggers belong to change feed %s%s%s.", id,
                                table == nullptr ? ", which does not exist" : " of table ",
                                table == nullptr ? "" : quote_identifier(table)),
                      errhint("Drop the triggers whose names begin with herald_feed_%s_.", id)));
}

const FeedTable *TableOf(const Feed *feed, const char *id, Relation relation) {
    const TableShape *shape = ShapeOf(relation);
    for (FeedTable *table = tables; table != nullptr; table = table->next)
        if (table->feed == feed && table->shape == shape) return table;
    auto *table = static_cast<FeedTable *>(MemoryContextAllocZero(TopTransactionContext, sizeof(FeedTable)));
    table->feed = feed;
    table->shape = shape;
    table->enrolled = feed != nullptr && IsInFeed(*feed, RelationGetRelid(relation));
    if (table->enrolled) {
        FindKey(table, relation);
        FindColumns(table);
    } else {
        ReportStranger(feed, id, relation);
    }
    table->next = tables;
    tables = table;
    return table;
}

bool SameValues(const FeedTable &table, const int16 *columns, int count, RowValues a, RowValues b) {
    for (int i = 0; i < count; i++)
        if (!SameValue(table.shape->row.columns[columns[i]], a, b)) return false;
    return true;
}

// In memory of its own, of the current context.
Jsonb *MakeJson(const FeedTable &table, const int16 *columns, int count, const RowValues *values) {
    if (count == 0 || values == nullptr) return nullptr;
    JsonBuffer buffer;
    InitJsonBuffer(&buffer, CurrentMemoryContext);
    return RowJson(&buffer, &table.shape->row, columns, count, *values);
}

// Whether the message of a change needs an image of the row before and after it.
bool NeedsOld(const Feed &feed, RowChange change) {
    switch (feed.message) {
        case FeedMessage::kDiff:
        case FeedMessage::kTemplate:
            return (change & (kUpdated | kDeleted)) != 0 && (feed.operations & (kUpdated | kDeleted)) != 0;
        case FeedMessage::kRow:
            return change == kDeleted && (feed.operations & kDeleted) != 0;
        default:
            return false;
    }
}

bool NeedsNow(const Feed &feed, RowChange change) {
    return feed.message != FeedMessage::kKey && (feed.operations & change) != 0 &&
           (change & (kInserted | kUpdated)) != 0;
}

// Statements are numbered in the order in which they begin; triggers fire with the statement's own snapshot.
CommandId CurrentStatement() { return ActiveSnapshotSet() ? GetActiveSnapshot()->curcid : GetCurrentCommandId(false); }

// A statement's changes are noted when it ends, so after those that statements within it have made, in triggers of
// its rows. Within one statement inserts are noted before updates, and these before deletes, and what foreign keys have
// done is noted with it, once for each kind of change. So `change` may have come before what was noted of the row.
//
// An INSERT of a row that a statement within has deleted: mostly a BEFORE trigger has made room for it.
bool CameBefore(const RowState &noted, RowChange change, CommandId statement) {
    if (noted.command > statement) return change != kInserted || (noted.change & (kInserted | kUpdated)) != 0;
    if (noted.command < statement) return false;
    return (change == kInserted && noted.last == kUpdated) || (change == kUpdated && noted.last == kDeleted) ||
           (change == kDeleted && noted.last == kInserted);
}

// What has become of a row, all in all.
RowChange Combine(RowChange before, RowChange change) {
    switch (before) {
        case kInserted:
            return change == kDeleted ? kNoChange : kInserted;
        case kUpdated:
            return change == kDeleted ? kDeleted : kUpdated;
        case kDeleted:
            return change == kDeleted ? kDeleted : kUpdated;
        default:
            return change;
    }
}

// Makes images that a state needs. True: one was made, so that the notes must be looked at again.
bool MakeImages(RowNote *note, bool needs_old, bool needs_now) {
    const FeedTable &table = *note->table;
    const bool make_old = needs_old && !note->old_made;
    const bool make_now = needs_now && !note->now_made;
    if (make_old) note->old_image = MakeJson(table, table.kept, table.kept_count, note->old);
    if (make_now) note->now_image = MakeJson(table, table.kept, table.kept_count, note->now);
    note->old_made = note->old_made || make_old;
    note->now_made = note->now_made || make_now;
    return make_old || make_now;
}

// What is to be noted where a change came before all that was noted of the row. False: images had to be made.
bool FindEarlierState(RowNote *note, const RowState &noted, RowState *state) {
    const Feed &feed = *note->notes->feed;
    *state = noted;
    state->first = CurrentStatement();
    state->change = note->change == kInserted                      ? kInserted
                    : (noted.change & (kInserted | kUpdated)) != 0 ? kUpdated
                                                                   : kDeleted;
    const bool needs_old = note->change != kInserted && NeedsOld(feed, state->change);
    const bool needs_now = NeedsNow(feed, state->change);
    if (MakeImages(note, needs_old, needs_now && noted.now == nullptr)) return false;
    state->old = needs_old ? note->old_image : nullptr;
    if (!needs_now)
        state->now = nullptr;
    else if (noted.now == nullptr)
        state->now = note->now_image;
    return true;
}

// What is to be noted where the change is the last one. False: images had to be made.
bool FindLaterState(RowNote *note, const RowState &noted, bool is_first, RowState *state) {
    const Feed &feed = *note->notes->feed;
    *state = RowState{};
    state->last = note->change;
    state->command = CurrentStatement();
    state->first = is_first ? state->command : noted.first;
    state->change = Combine(noted.change, note->change);
    // The first old image and the last new one.
    state->old = noted.change == kInserted ? nullptr : noted.old;
    const bool needs_old = state->old == nullptr && state->change != kInserted && NeedsOld(feed, state->change);
    const bool needs_now = NeedsNow(feed, state->change);
    if (MakeImages(note, needs_old, needs_now)) return false;
    if (needs_old) state->old = note->old_image;
    if (needs_now) state->now = note->now_image;
    if (state->change == kNoChange) state->old = nullptr;
    return true;
}

// One step of NoteChange; false: it has converted something, and is to be done again.
bool TryToNote(RowNote *note) {
    FeedNotes *notes = note->notes;
    if (notes->top->bulk) return true;
    NotedRow *row = note->key == nullptr ? nullptr : FindRow(notes, note->key);
    if (row == nullptr && !HasRoom(notes, 1)) {
        if ((notes->feed->operations & note->change) != 0) BeginBulk(notes);
        return true;
    }
    const CommandId statement = CurrentStatement();
    const RowState noted = row == nullptr ? RowState{} : row->state;
    RowState state;
    if (row != nullptr && CameBefore(noted, note->change, statement)) {
        // A change that came between others makes no difference to the first image and the last one.
        if (noted.first < statement) return true;
        if (!FindEarlierState(note, noted, &state)) return false;
    } else if (!FindLaterState(note, noted, row == nullptr, &state)) {
        return false;
    }
    NoteRow(notes, row, note->key, state);
    return true;
}

void NoteChange(FeedNotes *notes, const FeedTable &table, RowChange change, const RowValues *old,
                const RowValues *now) {
    if (notes->top->bulk) return;
    RowNote note{notes, &table, change, old, now, nullptr, false, false, nullptr, nullptr};
    note.key = MakeJson(table, table.key, table.key_count, now != nullptr ? now : old);
    while (!TryToNote(&note)) continue;  // each image is made once
}

// Notes a pair, but for the new row of one whose key has changed: true then. All old keys of a statement must be gone
// before the new ones come, which may be among them: UPDATE … SET id = id + 1.
bool NotePair(FeedNotes *notes, const FeedTable &table, const RowValues *old, const RowValues *now) {
    if (old == nullptr) {
        NoteChange(notes, table, kInserted, nullptr, now);
    } else if (now == nullptr) {
        NoteChange(notes, table, kDeleted, old, nullptr);
    } else if (!SameValues(table, table.key, table.key_count, *old, *now)) {
        NoteChange(notes, table, kDeleted, old, nullptr);
        return true;
    } else if (!SameValues(table, table.watched, table.watched_count, *old, *now)) {
        NoteChange(notes, table, kUpdated, old, now);
    }
    return false;
}

void NoteNewKey(FeedNotes *notes, const FeedTable &table, const RowValues *old, const RowValues *now) {
    if (!SameValues(table, table.key, table.key_count, *old, *now)) NoteChange(notes, table, kInserted, nullptr, now);
}

// In bulk rows are only counted, which was done.
void NoteRows(FeedNotes *notes, const FeedTable &table, Recording *recording) {
    bool keys_changed = false;
    RecordRows(recording, [&](const RowValues *old, const RowValues *now) {
        keys_changed = NotePair(notes, table, old, now) || keys_changed;
        return !notes->top->bulk;
    });
    if (!keys_changed || notes->top->bulk) return;
    RestartRecording(recording);
    RecordRows(recording, [&](const RowValues *old, const RowValues *now) {
        NoteNewKey(notes, table, old, now);
        return !notes->top->bulk;
    });
}

// `events`: those that the function is for, a set of RowChange; `by_row`: as a row trigger.
Datum Note(FunctionCallInfo fcinfo, uint8 events, bool by_row) {
    TriggerData *trigger = ReadTriggerCall(fcinfo, {"herald.enable_change_feed", events, by_row, 1});
    const RowChange change = ChangeOf(trigger);
    if (change != kTruncated && IsReplicating() != by_row) return static_cast<Datum>(0);
    const char *id = trigger->tg_trigger->tgargs[0];
    const Feed *feed = FindFeed(pg_strtoint32(id));
    const FeedTable &table = *TableOf(feed, id, trigger->tg_relation);
    if (!table.enrolled) return static_cast<Datum>(0);
    FeedNotes *notes = NotesOf(feed);
    if (change == kTruncated) {
        Relation relation = trigger->tg_relation;
        NoteTruncate(notes, RelationGetRelid(relation) == feed->relation ? nullptr : relation);
        return static_cast<Datum>(0);
    }
    Recording recording = BeginRecording(trigger);
    const int64 count = recording.pairs.count;
    if (count > 0) {
        CountRows(notes, change, static_cast<uint64>(count));
        // Each row of an INSERT or a DELETE is another one, so as many would be noted. An UPDATE may change some of
        // the rows that were noted before.
        if (change != kUpdated && !notes->top->bulk && (feed->operations & change) != 0 &&
            count > settings::change_feed_bulk_limit)
            BeginBulk(notes);
        if (!notes->top->bulk) NoteRows(notes, table, &recording);
    }
    EndRecording(&recording);
    return static_cast<Datum>(0);
}

}  // namespace

void ForgetFeedTables() { tables = nullptr; }

}  // namespace herald

HERALD_FEED_TRIGGER(feed_insert) { return herald::Note(fcinfo, herald::kInserted, false); }
HERALD_FEED_TRIGGER(feed_update) { return herald::Note(fcinfo, herald::kUpdated, false); }
HERALD_FEED_TRIGGER(feed_delete) { return herald::Note(fcinfo, herald::kDeleted, false); }
HERALD_FEED_TRIGGER(feed_truncate) { return herald::Note(fcinfo, herald::kTruncated, false); }
HERALD_FEED_TRIGGER(feed_replica) { return herald::Note(fcinfo, herald::kEveryRowChange, true); }
