// The rows of herald.status() about audit trails and change feeds. Names of tables and what is wrong with them, for those who
// may see them, and members of pg_monitor.

#include "pg/pg.hpp"

#include "audit/audit_target.hpp"
#include "audit/audited_tables.hpp"
#include "feed/feed_admin.hpp"
#include "feed/feed_publish.hpp"
#include "pg/as_owner.hpp"
#include "pg/saved_plan.hpp"
#include "pg/spi.hpp"
#include "sql/look.hpp"
#include "sql/status_rows.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
}

namespace herald {

namespace {

// Tables with our triggers. feed: the number that the trigger of a feed has as its argument.
constexpr char kTriggered[] =
    "SELECT DISTINCT t.tgrelid, pg_catalog.format('%I.%I', n.nspname, c.relname),"
    "       CASE WHEN p.proname OPERATOR(pg_catalog.~) '^feed_' AND t.tgnargs OPERATOR(pg_catalog.=) 1"
    "            THEN pg_catalog.substring(pg_catalog.encode(t.tgargs, 'escape'), '^[0-9]{1,9}') END::pg_catalog.int4 AS feed,"
    "       c.relowner"
    "  FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid"
    "  JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid"
    "  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
    " WHERE p.pronamespace OPERATOR(pg_catalog.=) 'herald_internal'::pg_catalog.regnamespace"
    "   AND p.proname OPERATOR(pg_catalog.~) '^(audit|feed)_(insert|update|delete|truncate|replica)$'"
    " ORDER BY 2, 3";

struct Triggered {
    Oid relation;
    const char *name;
    int32 feed;  // 0: of an audit trail
};

void ReportTrails(FunctionCallInfo fcinfo) {
    Listed broken;
    int count, audited = 0, hidden = 0;
    const StoredTarget *targets = ReadStoredTargets(&count);
    InitListed(&broken);
    for (int i = 0; i < count; i++) {
        if (!targets[i].enabled) continue;
        if (!MaySeeEverything() && !MaySeeTarget(targets[i])) {
            hidden++;
            continue;
        }
        audited++;
        int partitions;
        const char *problem = FindAuditProblem(targets[i], &partitions);
        if (problem != nullptr)
            AddListed(&broken, psprintf("%s.%s", targets[i].schema_name, targets[i].table_name), problem);
    }
    const char *value = hidden == 0 ? psprintf("%d tables", audited)
                                    : psprintf("%d tables, and %d that only others may see", audited, hidden);
    Report(fcinfo, "audit", broken.count == 0, broken.count == 0 ? value : broken.text.data,
           "Changes may be missing in herald.audit_log. Call herald.enable_audit() for the table again.",
           {static_cast<double>(audited), "tables"});
}

void ReportFeeds(FunctionCallInfo fcinfo) {
    Listed broken;
    int count, seen = 0;
    const Feed *feeds = ReadFeeds(&count);
    InitListed(&broken);
    for (int i = 0; i < count; i++) {
        if (!MaySeeEverything() && !MaySeeFeed(feeds[i])) continue;
        seen++;
        const char *table = get_rel_name(feeds[i].relation);
        const char *problem = table == nullptr ? "the table was dropped" : FindFeedProblem(feeds[i]);
        if (problem != nullptr)
            AddListed(&broken, table == nullptr ? psprintf("%u", feeds[i].relation) : table, problem);
    }
    const char *value = seen == count ? psprintf("%d feeds", seen)
                                      : psprintf("%d feeds, and %d that only others may see", seen, count - seen);
    Report(fcinfo, "change_feeds", broken.count == 0, broken.count == 0 ? value : broken.text.data,
           "Changes are not published, or not all: see herald.change_feeds.", {static_cast<double>(seen), "feeds"});
}

Triggered *ReadTriggered(int *count) {
    MemoryContext context = CurrentMemoryContext;
    const bool all = MaySeeEverything();
    const Oid user = GetUserId();
    return pg::AsOwner([&] {
        static pg::SavedPlan plan = {kTriggered};
        const uint64 rows = pg::SpiRunSaved(plan, std::array<pg::Param, 0>{});
        MemoryContext spi = MemoryContextSwitchTo(context);
        auto *found = static_cast<Triggered *>(palloc0(sizeof(Triggered) * Max(rows, 1)));
        *count = 0;
        for (uint64 row = 0; row < rows; row++) {
            const pg::Field feed = pg::SpiField(row, 3, INT4OID);
            if (!all && !has_privs_of_role(user, DatumGetObjectId(pg::SpiField(row, 4, OIDOID).value))) continue;
            found[(*count)++] = {DatumGetObjectId(pg::SpiField(row, 1, OIDOID).value), pg::SpiText(row, 2),
                                 feed.is_null ? 0 : DatumGetInt32(feed.value)};
        }
        MemoryContextSwitchTo(spi);
        return found;
    });
}

bool IsOrphan(const Triggered &table) {
    if (table.feed == 0) return FindTarget(table.relation) == nullptr;
    const Feed *feed = FindFeed(table.feed);
    return feed == nullptr || !IsInFeed(*feed, table.relation);
}

void ReportOrphans(FunctionCallInfo fcinfo) {
    Listed orphans;
    int count;
    const Triggered *tables = ReadTriggered(&count);
    InitListed(&orphans);
    for (int i = 0; i < count; i++)
        if (IsOrphan(tables[i]))
            AddListed(&orphans, tables[i].name,
                      tables[i].feed == 0 ? "audit" : psprintf("herald_feed_%d_*", tables[i].feed));
    ReportListed(
        fcinfo, "orphan_triggers", orphans, "tables",
        "A dump of the structure alone has brought the triggers, and not what they are for: nothing is recorded or "
        "published. Call herald.enable_audit() or herald.enable_change_feed() for the table again; or "
        "herald.disable_audit(), and DROP TRIGGER for those of a feed.");
}

}  // namespace

void ReportAudit(FunctionCallInfo fcinfo) {
    ReportTrails(fcinfo);
    ReportFeeds(fcinfo);
    ReportOrphans(fcinfo);
}

}  // namespace herald
