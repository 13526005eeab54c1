// See log_size.hpp.

#include "rotation/log_size.hpp"

#include "pg/extension.hpp"
#include "pg/spi.hpp"
#include "settings.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

constexpr uint64 kMegabyte = 1024 * 1024;
// Blocks of the parked table that are looked at, where it is larger.
constexpr double kSampledBlocks = 1000;

bool warned = false;

// With what lies outside the rows (TOAST).
uint64 TableBytes(Oid table) {
    Relation relation = table_open(table, AccessShareLock);
    const Oid toast = relation->rd_rel->reltoastrelid;
    table_close(relation, AccessShareLock);
    return HeapBytes(table) + (OidIsValid(toast) ? HeapBytes(toast) : 0);
}

// Of the payloads in it, by a sample of its blocks.
uint64 ParkedBytes() {
    const uint64 blocks = HeapBytes(pg::Tables().parked_store) / BLCKSZ;
    if (blocks == 0) return 0;
    const double percent = Min(100.0, kSampledBlocks * 100 / static_cast<double>(blocks));
    pg::SpiBegin();
    (void)pg::SpiRun(
        "SELECT pg_catalog.sum(100 + COALESCE(pg_catalog.pg_column_size(payload), 0)"
        " + COALESCE(pg_catalog.pg_column_size(headers), 0))::pg_catalog.float8"
        " FROM herald_internal.parked_store TABLESAMPLE SYSTEM ($1)",
        std::array{pg::Float8(percent)});
    const double bytes = pg::SpiFloat8(0, 1, 0) * 100 / percent;
    pg::SpiEnd();
    return static_cast<uint64>(bytes);
}

void Warn(uint64 bytes) {
    const bool half = LogLimit() > 0 && bytes >= LogLimit() / 2;
    if (half && !warned)
        ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                          errmsg("the log of messages has reached half of herald.max_log_size"),
                          errdetail("It takes " UINT64_FORMAT " MB.", bytes / kMegabyte),
                          errhint("herald.subscription_stats shows which subscriptions lag behind.")));
    // Not again and again around the half.
    if (half || bytes < LogLimit() / 4) warned = half;
}

}  // namespace

uint64 HeapBytes(Oid table) {
    Relation relation = table_open(table, AccessShareLock);
    const uint64 bytes = static_cast<uint64>(RelationGetNumberOfBlocks(relation)) * BLCKSZ;
    table_close(relation, AccessShareLock);
    return bytes;
}

void MeasureLog(DatabaseShared *database) {
    uint64 bytes = ParkedBytes();
    pg_atomic_write_u64(&database->log.parked_bytes, bytes);
    for (int i = 0; i < pg::kSegments; i++)
        bytes += TableBytes(pg::Tables().log[i]) + TableBytes(pg::Tables().settled[i]);
    pg_atomic_write_u64(&database->log.bytes, bytes);
    Warn(bytes);
}

uint64 LogLimit() { return static_cast<uint64>(settings::max_log_size) * kMegabyte; }

bool IsHalfFull(DatabaseShared *database) {
    return LogLimit() > 0 && pg_atomic_read_u64(&database->log.bytes) >= LogLimit() / 2;
}

bool IsFull(DatabaseShared *database) {
    return LogLimit() > 0 && pg_atomic_read_u64(&database->log.bytes) >= LogLimit();
}

}  // namespace herald
