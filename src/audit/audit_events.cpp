// See audit_events.hpp.

#include "pg/pg.hpp"

#include "audit/audit_events.hpp"

#include "audit/audit_context.hpp"
#include "audit/trail_tables.hpp"
#include "audit/segments.hpp"
#include "pg/as_owner.hpp"

extern "C" {
#include "catalog/pg_type.h"
}

namespace herald {

void WriteAuditEvent(const AuditEvent &event) {
    const TimestampTz now = GetCurrentTimestamp();
    const int segment = AuditSegmentAt(now);
    const char operation = static_cast<char>(event.operation);
    // In the name of the caller.
    const int64 context = AuditContextId(segment);
    pg::AsOwner([&] {
        (void)pg::SpiRun(
            psprintf("INSERT INTO herald_internal.audit_%d (id, context_id, changed_at, target_id, sequence, operation,"
                     " schema_name, table_name, old, new) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                     segment),
            std::array{pg::Int8(NextAuditId()), pg::Int8(context), pg::Time(now), pg::Int4(event.target_id),
                       pg::Int4(NextAuditSequence()), pg::Param{CHAROID, CharGetDatum(operation), false},
                       pg::Text(event.schema_name), pg::Text(event.table_name), event.old_detail, event.new_detail});
    });
}

}  // namespace herald
