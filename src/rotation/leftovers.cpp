// See leftovers.hpp.

#include "rotation/leftovers.hpp"

#include "parked/parked_row.hpp"
#include "pg/extension.hpp"
#include "pg/spi.hpp"
#include "pg/table_trust.hpp"
#include "stats/channel_counters.hpp"
#include "stats/dead_counts.hpp"
#include "tables/replication.hpp"

extern "C" {
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/guc.h"
}

namespace herald {

uint64 MoveLeftovers(int segment, bool half_full) {
    const int settings_level = NewGUCNestLevel();
    pg::ReadWithoutIndexes();
    pg::SpiBegin();
    // With a snapshot of its own: what is committed by now is seen, and under the exclusive lock nothing more can come.
    // A row for what was parked, and one for each subscription that gave up some. The failure log is about
    // attempts, of which there was none.
    const uint64 rows = pg::SpiRun(
        psprintf(
            "WITH left_over AS MATERIALIZED ("
            " SELECT s.id AS subscription_id, l.id AS message_id, l.channel_id, l.published_at,"
            " l.published_by, l.key, l.headers, l.payload, l.schema_version,"
            " $1 AND c.when_full = 'dead_letters' AS given_up"
            " FROM herald_internal.log_%d AS l JOIN herald_internal.subscription_store AS s ON s.channel_id = l.channel_id"
            " JOIN herald_internal.channel_store AS c ON c.id = l.channel_id"
            " WHERE NOT EXISTS (SELECT FROM (SELECT d.subscription_id,"
            " pg_catalog.unnest(d.message_ids) AS id FROM herald_internal.settled_%d AS d) AS settled"
            " WHERE settled.subscription_id = s.id AND settled.id = l.id)"
            " ORDER BY l.id),"
            " parked AS (INSERT INTO herald_internal.parked_store (" HERALD_PARKED_COLUMNS ", next_attempt_at)"
            " SELECT " HERALD_MESSAGE_COLUMNS ", 0, published_at FROM left_over WHERE NOT given_up"
            " ON CONFLICT DO NOTHING RETURNING 1),"
            " buried AS (INSERT INTO herald_internal.dead_letter_store (" HERALD_PARKED_COLUMNS ", error_code, message,"
            " died_at)"
            " SELECT " HERALD_MESSAGE_COLUMNS
            ", 0, '53400', 'given up: it was among the oldest when the log had reached half of"
            " herald.max_log_size', pg_catalog.clock_timestamp() FROM left_over WHERE given_up"
            " RETURNING subscription_id, channel_id),"
            " noted AS (INSERT INTO herald_internal.settled_%d (subscription_id, message_ids)"
            " SELECT subscription_id, pg_catalog.array_agg(message_id) FROM (SELECT subscription_id,"
            " message_id, (pg_catalog.row_number() OVER (PARTITION BY subscription_id"
            " ORDER BY message_id) - 1) / 200 AS part FROM left_over) AS numbered"
            " GROUP BY subscription_id, part)"
            " SELECT NULL, count(*), 0 FROM parked UNION ALL"
            " SELECT (SELECT c.channel FROM herald_internal.channel_store AS c WHERE c.id = b.channel_id), count(*),"
            " b.subscription_id FROM buried AS b GROUP BY b.subscription_id, b.channel_id",
            segment, segment, segment),
        std::array{pg::Bool(half_full)});
    uint64 moved = 0;
    for (uint64 i = 0; i < rows; i++) {
        const char *channel = pg::SpiText(i, 1);
        const uint64 count = static_cast<uint64>(pg::SpiInt8(i, 2));
        moved += count;
        if (channel == nullptr) continue;
        CountAtCommit(ChannelCounterSlot(MyDatabaseId, channel, true, InvalidOid), ChannelCounter::kDead, count);
        CountDeadAtCommit(pg::SpiInt4(i, 3), static_cast<int64>(count));
    }
    pg::SpiEnd();
    AtEOXact_GUC(false, settings_level);
    return moved;
}

void TruncateSegment(int segment) {
    pg::RequireTrustedTable(psprintf("log_%d", segment), AccessExclusiveLock);
    pg::RequireTrustedTable(psprintf("settled_%d", segment), AccessExclusiveLock);
    const Oid tables[] = {pg::Tables().log[segment], pg::Tables().settled[segment]};
    EmptyTables(tables, lengthof(tables));
}

}  // namespace herald
