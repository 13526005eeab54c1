// See purge.hpp.

#include "pg/pg.hpp"

#include "audit/purge.hpp"

#include "audit/audit_events.hpp"
#include "audit/segments.hpp"
#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/marker.hpp"
#include "pg/process.hpp"
#include "pg/spi.hpp"
#include "pg/table_trust.hpp"
#include "tables/replication.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
}

namespace herald {

namespace {

pg::Marker purging;

void TruncateAuditSegment(int segment) {
    pg::RequireTrustedTable(psprintf("audit_%d", segment), AccessExclusiveLock);
    pg::RequireTrustedTable(psprintf("audit_context_%d", segment), AccessExclusiveLock);
    const SubTransactionId outer = pg::SetMarker(&purging);
    const Oid schema = pg::Tables().internal;
    const Oid tables[] = {get_relname_relid(psprintf("audit_%d", segment), schema),
                          get_relname_relid(psprintf("audit_context_%d", segment), schema)};
    EmptyTables(tables, lengthof(tables));
    pg::ResetMarker(&purging, outer);
}

int64 CountOf(int segment) {
    (void)pg::SpiRun(psprintf("SELECT count(*) FROM herald_internal.audit_%d", segment));
    return pg::SpiInt8(0, 1);
}

bool HasSince(int segment, TimestampTz time) {
    (void)pg::SpiRun(psprintf("SELECT EXISTS (SELECT FROM herald_internal.audit_%d WHERE changed_at >= $1)", segment),
                     std::array{pg::Time(time)});
    return pg::SpiBool(0, 1);
}

// A context goes with its last entry: both were written by one transaction, which is over.
int64 DeleteBefore(int segment, TimestampTz before) {
    const SubTransactionId outer = pg::SetMarker(&purging);
    const uint64 deleted = pg::SpiRun(psprintf("DELETE FROM herald_internal.audit_%d WHERE changed_at < $1", segment),
                                      std::array{pg::Time(before)});
    (void)pg::SpiRun(
        psprintf("DELETE FROM herald_internal.audit_context_%d AS c WHERE NOT EXISTS"
                 " (SELECT FROM herald_internal.audit_%d AS e WHERE e.context_id = c.id)",
                 segment, segment));
    pg::ResetMarker(&purging, outer);
    return static_cast<int64>(deleted);
}

int64 PurgeSegment(int segment, const TimestampTz *before) {
    if (before != nullptr) return DeleteBefore(segment, *before);
    // Locked before it is counted, so that nothing comes in between.
    (void)pg::SpiRun(
        psprintf("LOCK TABLE herald_internal.audit_%d, herald_internal.audit_context_%d IN ACCESS EXCLUSIVE MODE",
                 segment, segment));
    const int64 count = CountOf(segment);
    TruncateAuditSegment(segment);
    return count;
}

void NotePurge(TimestampTz before, int64 count) {
    MemoryContext context = CurrentMemoryContext;
    const Datum detail = pg::AsOwner([&] {
        (void)pg::SpiRun("SELECT pg_catalog.jsonb_build_object('before', $1, 'entries', $2)",
                         std::array{pg::Time(before), pg::Int8(count)});
        MemoryContext spi = MemoryContextSwitchTo(context);
        Datum copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(pg::SpiField(0, 1, JSONBOID).value));
        MemoryContextSwitchTo(spi);
        return copy;
    });
    const AuditEvent event = {AuditOperation::kPurge,
                              0,
                              "herald",
                              "audit_log",
                              pg::Jsonb(detail, false),
                              pg::Jsonb(static_cast<Datum>(0), true)};
    WriteAuditEvent(event);
}

bool IsExpired(int segment, TimestampTz limit) {
    pg::SpiBegin();
    (void)pg::SpiRun(
        psprintf("SELECT EXISTS (SELECT FROM herald_internal.audit_%d)"
                 " OR EXISTS (SELECT FROM herald_internal.audit_context_%d)",
                 segment, segment));
    const bool expired = pg::SpiBool(0, 1) && !HasSince(segment, limit);
    pg::SpiEnd();
    return expired;
}

// Locked only when it is likely to be emptied, and then looked at again.
void EmptyExpired(int segment, TimestampTz limit) {
    const Oid schema = pg::Tables().internal;
    const Oid log = get_relname_relid(psprintf("audit_%d", segment), schema);
    const Oid context = get_relname_relid(psprintf("audit_context_%d", segment), schema);
    // Nobody is waited for, not for a look either.
    if (!ConditionalLockRelationOid(log, AccessShareLock) || !ConditionalLockRelationOid(context, AccessShareLock) ||
        !IsExpired(segment, limit))
        return;
    if (!ConditionalLockRelationOid(log, AccessExclusiveLock) ||
        !ConditionalLockRelationOid(context, AccessExclusiveLock) || !IsExpired(segment, limit))
        return;
    pg::SpiBegin();
    TruncateAuditSegment(segment);
    pg::SpiEnd();
}

}  // namespace

int64 PurgeAuditLog(const TimestampTz *before) {
    int64 count = 0;
    const char *user = GetUserNameFromId(GetUserId(), false);
    pg::AsOwner([&] {
        for (int segment = 0; segment < kAuditSegments; segment++) count += PurgeSegment(segment, before);
        if (before == nullptr) {
            (void)pg::SpiRun(
                "DELETE FROM herald_internal.audit_key WHERE target_id IN"
                " (SELECT id FROM herald_internal.audit_target WHERE NOT enabled)");
            (void)pg::SpiRun("DELETE FROM herald_internal.audit_target WHERE NOT enabled");
        }
    });
    if (before != nullptr) NotePurge(*before, count);
    ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION),
                  errmsg("user \"%s\" deletes " INT64_FORMAT " entries of the audit trail", user, count),
                  before == nullptr ? 0 : errdetail("Those before %s.", timestamptz_to_str(*before))));
    return count;
}

void ApplyAuditRetention() {
    if (settings::audit_retention == 0) return;
    for (int segment = 0; segment < kAuditSegments; segment++) {
        pg::BeginTransaction();
        const TimestampTz now = GetCurrentTimestamp();
        // The next one, too: the turn before it is written to again is the only one in which all of it is old.
        if (segment != AuditSegmentAt(now)) EmptyExpired(segment, now - settings::audit_retention * USECS_PER_MINUTE);
        pg::CommitTransaction();
    }
}

bool PurgingAuditLog() { return pg::IsSet(purging); }

}  // namespace herald
