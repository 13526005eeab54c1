// What commands of others mean for feeds: partitions get the triggers of the feeds of their table, and lose them where
// they leave it; with a table its feeds go.

#include "pg/pg.hpp"

#include "change/table_changes.hpp"
#include "change/table_tree.hpp"
#include "feed/feed_admin.hpp"

extern "C" {
#include "utils/lsyscache.h"
}

namespace herald {

namespace {

void OnParentChange(const Feed *feeds, int feed_count, Oid relation) {
    int count;
    if (get_rel_name(relation) == nullptr) return;
    const Oid *tree = LockTree(relation, AccessShareLock, &count);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < feed_count; j++) AdjustMember(feeds[j], tree[i]);
}

// Read again each time: the command before may have renamed another one.
void OnColumnRenamed(const TableChange &change) {
    int count;
    const Feed *feeds = ReadFeeds(&count);
    for (int i = 0; i < count; i++)
        if (get_rel_name(feeds[i].relation) != nullptr &&
            (feeds[i].relation == change.relation || IsAbove(change.relation, feeds[i].relation)))
            RenameFeedColumn(feeds[i], change.column, change.new_column);
}

void OnChanges(const TableChange *changes, int count) {
    int feed_count;
    const Feed *feeds = ReadFeeds(&feed_count);
    if (feed_count == 0) return;
    for (int i = 0; i < count; i++) {
        if (changes[i].kind == TableChangeKind::kParentChanged)
            OnParentChange(feeds, feed_count, changes[i].relation);
        else if (changes[i].kind == TableChangeKind::kColumnRenamed)
            OnColumnRenamed(changes[i]);
        else if (changes[i].kind == TableChangeKind::kDropped)
            for (int j = 0; j < feed_count; j++)
                if (feeds[j].relation == changes[i].relation) ForgetFeed(feeds[j]);
    }
}

}  // namespace

void InitFeedWatch() { OnTableChanges(OnChanges, nullptr, nullptr); }

}  // namespace herald
