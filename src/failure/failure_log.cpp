// See failure_log.hpp.

#include "pg/pg.hpp"

#include "failure/failure_log.hpp"
#include "parked/parked_row.hpp"
#include "pg/clip.hpp"
#include "pg/as_owner.hpp"
#include "pg/roles.hpp"
#include "pg/saved_plan.hpp"
#include "stats/dead_counts.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/numeric.h"
}

namespace herald {

namespace {

// Bytes that are kept of each text of an error: a handler may put anything into it, and deep recursion makes the
// context endless. The log keeps one row per attempt for herald.failure_retention.
constexpr int kMaxText = 8192;
constexpr int kMaxTaskId = 1024;

pg::SavedPlan insert_failure = {
    "INSERT INTO herald_internal.failure_store (subscription_id, subscription, channel, run_as, message_id, "
    "task_id, attempt, error_code, message, detail, hint, context, handler, started_at, failed_at, "
    "next_attempt_at, run_as_role) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"};
pg::SavedPlan insert_dead = {"INSERT INTO herald_internal.dead_letter_store (" HERALD_PARKED_COLUMNS
                             ", error_code, message, died_at) "
                             "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"};
}  // namespace

void RecordFailure(const FailureRecord &record) {
    const char *message = record.message == nullptr ? "unknown error" : record.message;
    const char *identity = pg::RoleIdentity(record.role);
    pg::AsOwner([&] {
        pg::SpiRunSaved(
            insert_failure,
            std::array{pg::Int4(record.subscription_id), pg::Text(record.subscription), pg::Text(record.channel),
                       pg::Text(record.run_as),
                       pg::Param{INT8OID, Int64GetDatum(record.message_id), record.message_id == 0},
                       pg::Text(record.task_id), pg::Int4(record.attempt), pg::Text(unpack_sql_state(record.sqlstate)),
                       pg::Text(pg::ClipText(message, kMaxText)), pg::Text(pg::ClipText(record.detail, kMaxText)),
                       pg::Text(pg::ClipText(record.hint, kMaxText)), pg::Text(pg::ClipText(record.context, kMaxText)),
                       pg::Text(record.handler), pg::Time(record.started_at), pg::Time(record.failed_at),
                       pg::Time(record.next_attempt_at), pg::Text(identity)});
    });
}

void BuryTask(int32 subscription_id, const StoredMessage &message, int32 attempts, int sqlstate,
              const char *error_message, TimestampTz died_at) {
    pg::AsOwner([&] {
        pg::SpiRunSaved(
            insert_dead,
            std::array{pg::Int4(subscription_id), pg::Int8(message.id), pg::Int4(message.channel_id),
                       pg::Time(message.published_at), OptionalText(message.published_by), OptionalText(message.key),
                       OptionalJsonb(message.headers), OptionalJsonb(message.payload), SchemaVersion(message),
                       pg::Int4(attempts), pg::Text(unpack_sql_state(sqlstate)),
                       pg::Text(pg::ClipText(error_message, kMaxText)), pg::Time(died_at)});
        CountDeadAtCommit(subscription_id, 1);
    });
    (void)DeleteParked(subscription_id, message.id);
}

const char *TaskIdOf(const StoredMessage &message) {
    constexpr std::string_view kMember = "task_id";
    JsonbValue value;

    value.type = jbvNull;
    if (message.payload != nullptr && JB_ROOT_IS_OBJECT(message.payload))
        getKeyJsonValueFromContainer(&message.payload->root, kMember.data(), static_cast<int>(kMember.size()), &value);
    // The same text as the operator ->> gives, which the views use.
    const char *id;
    switch (value.type) {
        case jbvString:
            id = pnstrdup(value.val.string.val, static_cast<Size>(value.val.string.len));
            break;
        case jbvNumeric:
            id = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
            break;
        case jbvBool:
            id = value.val.boolean ? "true" : "false";
            break;
        case jbvBinary:
            id = JsonbToCString(nullptr, value.val.binary.data, value.val.binary.len);
            break;
        default:
            id = psprintf(INT64_FORMAT, message.id);
            break;
    }
    return pg::ClipText(id, kMaxTaskId);
}

int64 PurgeFailures(int64 retention, int64 limit) {
    return pg::AsOwner([&] {
        uint64 deleted = pg::SpiRun(
            "DELETE FROM herald_internal.failure_store WHERE id IN ("
            "SELECT id FROM herald_internal.failure_store WHERE failed_at < $1 ORDER BY failed_at LIMIT $2 "
            "FOR UPDATE SKIP LOCKED)",
            std::array{pg::Time(GetCurrentTimestamp() - retention), pg::Int8(limit)});
        return static_cast<int64>(deleted);
    });
}

}  // namespace herald
