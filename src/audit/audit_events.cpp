// See audit_events.hpp.

#include "pg/pg.hpp"

#include "audit/audit_events.hpp"

#include "audit/segments.hpp"
#include "pg/identity.hpp"

extern "C" {
#include "catalog/pg_type.h"
}

namespace herald {

void WriteAuditEvent(const AuditEvent &event) {
    const TimestampTz now = GetCurrentTimestamp();
    const int segment = AuditSegmentAt(now);
    const char operation = static_cast<char>(event.operation);
    const char *user = GetUserNameFromId(GetUserId(), true);
    pg::Identity caller = pg::BecomeOwner();
    pg::SpiBegin();
    (void)pg::SpiRun(
        psprintf("WITH context AS (INSERT INTO herald.audit_context_%d (id, transaction_id,"
                 " session_user_name, current_user_name, application_name, client_addr, client_port)"
                 " VALUES (pg_catalog.nextval('herald.audit_context_id_seq'),"
                 " pg_catalog.pg_current_xact_id(), SESSION_USER, $1,"
                 " pg_catalog.current_setting('application_name'), pg_catalog.inet_client_addr(),"
                 " pg_catalog.inet_client_port()) RETURNING id)"
                 " INSERT INTO herald.audit_%d (id, context_id, changed_at, target_id, sequence,"
                 " operation, schema_name, table_name, old, new)"
                 " SELECT pg_catalog.nextval('herald.audit_id_seq'), c.id, $2, $3, 0, $4, $5, $6, $7, $8"
                 " FROM context AS c",
                 segment, segment),
        std::array{pg::Text(user == nullptr ? "" : user), pg::Time(now), pg::Int4(event.target_id),
                   pg::Param{CHAROID, CharGetDatum(operation), false}, pg::Text(event.schema_name),
                   pg::Text(event.table_name), event.old_detail, event.new_detail});
    pg::SpiEnd();
    pg::BecomeCaller(caller);
}

}  // namespace herald
