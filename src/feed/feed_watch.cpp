// What commands of others mean for feeds: partitions get the triggers of the feeds of their table, and lose them where
// they leave it; with a table its feeds go.

#include "pg/pg.hpp"

#include "change/table_changes.hpp"
#include "change/table_tree.hpp"
#include "feed/feed_admin.hpp"
#include "feed/feed_notes.hpp"
#include "pg/compat.hpp"
#include "pg/extension.hpp"

extern "C" {
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "executor/tuptable.h"
#include "utils/snapmgr.h"
#include "utils/lsyscache.h"
}

namespace herald {

namespace {

// Its triggers would not see statements that name the table above.
void RequireNoFeed(const Feed *feeds, int feed_count, Oid relation, Oid parent) {
    for (int i = 0; i < feed_count; i++)
        if (feeds[i].relation == relation)
            ereport(
                ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("table \"%s\" has a change feed to channel \"%s\" of its own", get_rel_name(relation),
                        feeds[i].channel),
                 errdetail("Changes by statements that name table \"%s\" would not be published.",
                           get_rel_name(parent)),
                 errhint(
                     "Call herald.disable_change_feed() before, and herald.enable_change_feed() for the one above.")));
}

// Whether a table of the partition's tree, which is locked, has rows.
bool HasRows(const Oid *tree, int count) {
    for (int i = 0; i < count; i++) {
        if (get_rel_relkind(tree[i]) != RELKIND_RELATION) continue;
        Relation table = table_open(tree[i], NoLock);
        Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
        TableScanDesc scan = pg::BeginTableScan(table, snapshot);
        TupleTableSlot *row = table_slot_create(table, nullptr);
        const bool found = table_scan_getnextslot(scan, ForwardScanDirection, row);
        ExecDropSingleTupleTableSlot(row);
        table_endscan(scan);
        UnregisterSnapshot(snapshot);
        table_close(table, NoLock);
        if (found) return true;
    }
    return false;
}

// Rows come or go by this, and no trigger says so.
void NoteRows(const Feed *feeds, int feed_count, Oid relation, Oid parent, const Oid *tree, int count) {
    const PartitionChange change = IsAbove(parent, relation) ? PartitionChange::kAttached : PartitionChange::kDetached;
    bool has_rows = false, looked = false;
    for (int i = 0; i < feed_count; i++) {
        if (!IsInFeed(feeds[i], parent) || get_rel_name(feeds[i].relation) == nullptr) continue;
        if (!looked) has_rows = HasRows(tree, count);
        looked = true;
        const Feed *feed = has_rows ? FindFeed(feeds[i].id) : nullptr;
        if (feed != nullptr) NotePartition(NotesOf(feed), relation, change);
    }
}

void OnParentChange(const Feed *feeds, int feed_count, Oid relation, Oid parent) {
    int count;
    bool concerned = false;
    if (get_rel_name(relation) == nullptr) return;
    if (IsAbove(parent, relation)) RequireNoFeed(feeds, feed_count, relation, parent);
    for (int i = 0; i < feed_count; i++) concerned = concerned || IsInFeed(feeds[i], parent);
    if (!concerned) return;
    // The lock that CREATE TRIGGER takes, from the start: a lock that grows can deadlock.
    const Oid *tree = LockTree(relation, ShareRowExclusiveLock, &count);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < feed_count; j++) AdjustMember(feeds[j], tree[i]);
    NoteRows(feeds, feed_count, relation, parent, tree, count);
}

// The rows of a partition, or child, go with it. Where the feed's own table goes, too, nothing is published of that.
void OnDrop(Oid relation) {
    int parent_count, feed_count;
    if (get_rel_relkind(relation) != RELKIND_RELATION || get_rel_persistence(relation) == RELPERSISTENCE_TEMP) return;
    (void)ParentsOf(relation, &parent_count);
    if (parent_count == 0 || !pg::ExtensionExists()) return;
    const Feed *feeds = ReadFeeds(&feed_count);
    for (int i = 0; i < feed_count; i++) {
        if (feeds[i].relation == relation || !IsInFeed(feeds[i], relation)) continue;
        if (!HasRows(&relation, 1)) return;
        const Feed *feed = FindFeed(feeds[i].id);
        if (feed != nullptr) NotePartition(NotesOf(feed), relation, PartitionChange::kDropped);
    }
}

// Read again each time: the command before may have renamed another one.
void OnColumnRenamed(const TableChange &change) {
    int count;
    const Feed *feeds = ReadFeeds(&count);
    for (int i = 0; i < count; i++)
        if (feeds[i].relation == change.relation && get_rel_name(change.relation) != nullptr)
            RenameFeedColumn(feeds[i], change.column, change.new_column);
}

void OnChanges(const TableChange *changes, int count) {
    int feed_count;
    const Feed *feeds = ReadFeeds(&feed_count);
    if (feed_count == 0) return;
    for (int i = 0; i < count; i++) {
        if (changes[i].kind == TableChangeKind::kParentChanged)
            OnParentChange(feeds, feed_count, changes[i].relation, changes[i].parent);
        else if (changes[i].kind == TableChangeKind::kColumnRenamed)
            OnColumnRenamed(changes[i]);
        else if (changes[i].kind == TableChangeKind::kDropped)
            for (int j = 0; j < feed_count; j++)
                if (feeds[j].relation == changes[i].relation) ForgetFeed(feeds[j]);
    }
}

}  // namespace

void InitFeedWatch() { OnTableChanges(OnChanges, nullptr, OnDrop); }

}  // namespace herald
