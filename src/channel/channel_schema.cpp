// See channel_schema.hpp.

#include "channel/channel_schema.hpp"

#include "pg/as_owner.hpp"
#include "pg/spi.hpp"
#include "schema/json_view.hpp"
#include "schema/schema_cache.hpp"
#include "schema/schema_check.hpp"

namespace herald {

namespace {

struct Misfits {
    int64 checked;
    int64 count;
    int64 first_id;
    Jsonb *first;
};

// Checked by the function for everybody, so that no message has to be brought here but one.
Misfits FindMisfits(int32 channel_id, Jsonb *schema, bool check_formats) {
    MemoryContext context = CurrentMemoryContext;
    Misfits found{};
    return pg::AsOwner([&] {
        pg::ReadWithoutIndexes();
        const std::array params{pg::Int4(channel_id), pg::Jsonb(JsonbPGetDatum(schema), false),
                                pg::Bool(check_formats)};
        pg::SpiRun(
            "WITH subscriptions AS MATERIALIZED ("
            "  SELECT id FROM herald_internal.subscription_store WHERE channel_id = $1), "
            "messages AS NOT MATERIALIZED ("
            "  SELECT id, payload FROM herald_internal.log WHERE channel_id = $1), "
            "waiting AS MATERIALIZED ("
            "  SELECT DISTINCT m.id FROM messages AS m, subscriptions AS s "
            "   WHERE NOT EXISTS ("
            "         SELECT FROM herald_internal.settled AS d WHERE d.subscription_id = s.id AND d.message_id = m.id) "
            "  UNION SELECT id FROM (SELECT id FROM messages ORDER BY id DESC LIMIT 1000) AS youngest), "
            "stored AS ("
            "  SELECT m.id, m.payload FROM messages AS m JOIN waiting AS w ON w.id = m.id UNION ALL "
            "  SELECT message_id, payload FROM herald_internal.parked_store WHERE channel_id = $1), "
            "checked AS (SELECT id, herald.validate($2, payload, $3) AS fits FROM stored) "
            "SELECT count(*), count(*) FILTER (WHERE NOT fits), min(id) FILTER (WHERE NOT fits) FROM checked",
            params);
        found.checked = pg::SpiInt8(0, 1);
        found.count = pg::SpiInt8(0, 2);
        found.first_id = pg::SpiInt8(0, 3);
        if (found.count > 0) {
            const uint64 rows = pg::SpiRun(
                "SELECT payload FROM ("
                "  SELECT id, channel_id, payload FROM herald_internal.log UNION ALL "
                "  SELECT message_id, channel_id, payload FROM herald_internal.parked_store) AS stored "
                "WHERE id = $2 AND channel_id = $1 LIMIT 1",
                std::array{pg::Int4(channel_id), pg::Int8(found.first_id)});
            MemoryContext spi = MemoryContextSwitchTo(context);
            // It may have been handled meanwhile.
            if (rows > 0) found.first = DatumGetJsonbPCopy(pg::SpiField(0, 1, JSONBOID).value);
            MemoryContextSwitchTo(spi);
        }
        return found;
    });
}

char *SubjectOf(const char *channel) { return psprintf("schema for channel \"%s\"", channel); }

}  // namespace

Jsonb *GivenSchema(Jsonb *argument) {
    return argument == nullptr || ViewOf(argument).type == JsonType::kNull ? nullptr : argument;
}

void CheckSchema(const char *channel, Jsonb *schema, bool check_formats) {
    (void)CompiledFor(schema, check_formats, SubjectOf(channel), nullptr);
}

void RequireStoredFit(const Channel &channel, Jsonb *schema, bool check_formats) {
    const Misfits found = FindMisfits(channel.id, schema, check_formats);
    if (found.count == 0) return;
    Violation violation{};
    const CompiledSchema *compiled = CompiledFor(schema, check_formats, SubjectOf(channel.name), nullptr);
    const int count = found.first == nullptr ? 0 : FindViolations(compiled, found.first, &violation, 1);
    ereport(ERROR,
            (errcode(ERRCODE_CHECK_VIOLATION),
             errmsg("schema for channel \"%s\" does not fit " INT64_FORMAT " of the " INT64_FORMAT
                    " messages that wait or were published last",
                    channel.name, found.count, found.checked),
             count == 0 ? 0 : errdetail("Message " INT64_FORMAT ": %s.", found.first_id, DescribeViolation(violation)),
             errhint("What is published from now on is checked, what is stored stays as it is: with "
                     "force => true the schema is set all the same.")));
}

}  // namespace herald
