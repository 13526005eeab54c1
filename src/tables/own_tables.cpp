// See own_tables.hpp.

#include "tables/own_tables.hpp"

#include "pg/extension.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

using pg::ColumnForm;
using pg::RowsFrom;

constexpr bool kNotNull = true;
constexpr bool kMayBeNull = false;

constexpr ColumnForm kLogColumnForms[] = {
    {"id", INT8OID, kNotNull},         {"published_at", TIMESTAMPTZOID, kNotNull},
    {"channel_id", INT4OID, kNotNull}, {"published_by", TEXTOID, kMayBeNull},
    {"key", TEXTOID, kMayBeNull},      {"headers", JSONBOID, kMayBeNull},
    {"payload", JSONBOID, kNotNull},   {"schema_version", INT4OID, kMayBeNull},
};

constexpr ColumnForm kSettledColumnForms[] = {
    {"subscription_id", INT4OID, kNotNull},
    {"message_ids", INT8ARRAYOID, kNotNull},
};

constexpr ColumnForm kParkedColumnForms[] = {
    {"subscription_id", INT4OID, kNotNull},
    {"message_id", INT8OID, kNotNull},
    {"channel_id", INT4OID, kNotNull},
    {"published_at", TIMESTAMPTZOID, kNotNull},
    {"published_by", TEXTOID, kMayBeNull},
    {"key", TEXTOID, kMayBeNull},
    {"headers", JSONBOID, kMayBeNull},
    {"payload", JSONBOID, kNotNull},
    {"schema_version", INT4OID, kMayBeNull},
    {"attempts", INT4OID, kNotNull},
    {"next_attempt_at", TIMESTAMPTZOID, kNotNull},
};

constexpr ColumnForm kChannelColumnForms[] = {
    {"id", INT4OID, kNotNull},
    {"channel", TEXTOID, kNotNull},
    {"owner", TEXTOID, kNotNull},
    {"durable", BOOLOID, kNotNull},
    {"announce", TEXTOID, kNotNull},
    {"accept_notify", BOOLOID, kNotNull},
    {"max_payload_bytes", INT4OID, kMayBeNull},
    {"description", TEXTOID, kMayBeNull},
    {"created_at", TIMESTAMPTZOID, kNotNull},
    {"when_full", TEXTOID, kNotNull},
    {"schema", JSONBOID, kMayBeNull},
    {"validation", TEXTOID, kNotNull},
    {"check_formats", BOOLOID, kNotNull},
    {"schema_version", INT4OID, kNotNull},
    {"owner_role", TEXTOID, kMayBeNull},
};

constexpr ColumnForm kChannelGrantColumnForms[] = {
    {"channel_id", INT4OID, kNotNull},
    {"grantee", TEXTOID, kNotNull},
    {"privilege", TEXTOID, kNotNull},
    {"grantee_role", TEXTOID, kNotNull},
};

constexpr ColumnForm kSubscriptionColumnForms[] = {
    {"id", INT4OID, kNotNull},
    {"subscription", TEXTOID, kNotNull},
    {"channel_id", INT4OID, kNotNull},
    {"owner", TEXTOID, kNotNull},
    {"handler", TEXTOID, kNotNull},
    {"run_as", TEXTOID, kNotNull},
    {"max_concurrency", INT4OID, kNotNull},
    {"max_attempts", INT4OID, kNotNull},
    {"retry_delay", INTERVALOID, kNotNull},
    {"retry_backoff", FLOAT8OID, kNotNull},
    {"max_retry_delay", INTERVALOID, kNotNull},
    {"timeout", INTERVALOID, kNotNull},
    {"batch", BOOLOID, kNotNull},
    {"state", TEXTOID, kNotNull},
    {"reason", TEXTOID, kMayBeNull},
    {"system_identifier", TEXTOID, kNotNull},
    {"database_oid", INT8OID, kNotNull},
    {"created_at", TIMESTAMPTZOID, kNotNull},
    {"owner_role", TEXTOID, kMayBeNull},
    {"run_as_role", TEXTOID, kMayBeNull},
    {"handler_owner", TEXTOID, kMayBeNull},
    {"handler_owner_role", TEXTOID, kMayBeNull},
    {"isolation", TEXTOID, kNotNull},
};

constexpr ColumnForm kDeadLetterColumnForms[] = {
    {"id", INT8OID, kNotNull},
    {"subscription_id", INT4OID, kNotNull},
    {"message_id", INT8OID, kNotNull},
    {"channel_id", INT4OID, kNotNull},
    {"published_at", TIMESTAMPTZOID, kNotNull},
    {"published_by", TEXTOID, kMayBeNull},
    {"key", TEXTOID, kMayBeNull},
    {"headers", JSONBOID, kMayBeNull},
    {"payload", JSONBOID, kNotNull},
    {"schema_version", INT4OID, kMayBeNull},
    {"attempts", INT4OID, kNotNull},
    {"error_code", TEXTOID, kMayBeNull},
    {"message", TEXTOID, kMayBeNull},
    {"died_at", TIMESTAMPTZOID, kNotNull},
};

constexpr ColumnForm kFailureColumnForms[] = {
    {"id", INT8OID, kNotNull},
    {"subscription_id", INT4OID, kNotNull},
    {"subscription", TEXTOID, kNotNull},
    {"channel", TEXTOID, kNotNull},
    {"run_as", TEXTOID, kNotNull},
    {"message_id", INT8OID, kMayBeNull},
    {"task_id", TEXTOID, kNotNull},
    {"attempt", INT4OID, kNotNull},
    {"error_code", TEXTOID, kNotNull},
    {"message", TEXTOID, kNotNull},
    {"detail", TEXTOID, kMayBeNull},
    {"hint", TEXTOID, kMayBeNull},
    {"context", TEXTOID, kMayBeNull},
    {"handler", TEXTOID, kNotNull},
    {"started_at", TIMESTAMPTZOID, kNotNull},
    {"failed_at", TIMESTAMPTZOID, kNotNull},
    {"next_attempt_at", TIMESTAMPTZOID, kMayBeNull},
    {"run_as_role", TEXTOID, kMayBeNull},
};

constexpr ColumnForm kIdColumnForms[] = {
    {"used", INT8OID, kNotNull},
    {"counter", TEXTOID, kNotNull},
};

constexpr ColumnForm kPointerColumnForms[] = {
    {"message_id", INT8OID, kNotNull},          {"channel", TEXTOID, kNotNull},  {"role", OIDOID, kNotNull},
    {"published_at", TIMESTAMPTZOID, kNotNull}, {"payload", JSONBOID, kNotNull}, {"bytes", INT4OID, kNotNull},
};

constexpr ColumnForm kChangeFeedColumnForms[] = {
    {"id", INT4OID, kNotNull},
    {"relation", REGCLASSOID, kNotNull},
    {"channel", TEXTOID, kNotNull},
    {"channel_id", INT4OID, kMayBeNull},
    {"message", TEXTOID, kNotNull},
    {"columns", TEXTARRAYOID, kMayBeNull},
    {"operations", TEXTARRAYOID, kNotNull},
    {"owner", TEXTOID, kNotNull},
    {"created_at", TIMESTAMPTZOID, kNotNull},
    {"owner_role", TEXTOID, kMayBeNull},
};

constexpr ColumnForm kAuditTargetColumnForms[] = {
    {"id", INT4OID, kNotNull},
    {"relation", OIDOID, kNotNull},
    {"schema_name", TEXTOID, kNotNull},
    {"table_name", TEXTOID, kNotNull},
    {"system_identifier", TEXTOID, kNotNull},
    {"database_oid", INT8OID, kNotNull},
    {"enabled", BOOLOID, kNotNull},
    {"record", TEXTOID, kNotNull},
    {"operations", TEXTARRAYOID, kNotNull},
    {"excluded", TEXTARRAYOID, kNotNull},
    {"excluded_numbers", INT2ARRAYOID, kNotNull},
    {"masked", TEXTARRAYOID, kNotNull},
    {"masked_numbers", INT2ARRAYOID, kNotNull},
    {"hashed", TEXTARRAYOID, kNotNull},
    {"hashed_numbers", INT2ARRAYOID, kNotNull},
    {"salt", BYTEAOID, kNotNull},
    {"disturbed", BOOLOID, kNotNull},
    {"created_at", TIMESTAMPTZOID, kNotNull},
    {"created_by", TEXTOID, kNotNull},
};

constexpr ColumnForm kAuditKeyColumnForms[] = {
    {"target_id", INT4OID, kNotNull},    {"version", INT4OID, kNotNull}, {"names", TEXTARRAYOID, kNotNull},
    {"numbers", INT2ARRAYOID, kNotNull}, {"renamed", BOOLOID, kNotNull},
};

constexpr ColumnForm kAuditColumnForms[] = {
    {"id", INT8OID, kNotNull},
    {"context_id", INT8OID, kNotNull},
    {"changed_at", TIMESTAMPTZOID, kNotNull},
    {"record_hash", INT8OID, kMayBeNull},
    {"old_record_hash", INT8OID, kMayBeNull},
    {"target_id", INT4OID, kNotNull},
    {"sequence", INT4OID, kNotNull},
    {"operation", CHAROID, kNotNull},
    {"schema_name", TEXTOID, kNotNull},
    {"table_name", TEXTOID, kNotNull},
    {"record_id", JSONBOID, kMayBeNull},
    {"old_record_id", JSONBOID, kMayBeNull},
    {"old", JSONBOID, kMayBeNull},
    {"new", JSONBOID, kMayBeNull},
    {"changed", TEXTARRAYOID, kMayBeNull},
};

constexpr ColumnForm kAuditContextColumnForms[] = {
    {"id", INT8OID, kNotNull},
    {"transaction_id", XID8OID, kNotNull},
    {"session_user_name", TEXTOID, kNotNull},
    {"current_user_name", TEXTOID, kNotNull},
    {"application_name", TEXTOID, kMayBeNull},
    {"client_address", INETOID, kMayBeNull},
    {"client_port", INT4OID, kMayBeNull},
    {"statement", TEXTOID, kMayBeNull},
    {"context", JSONBOID, kMayBeNull},
};

template <std::size_t N>
constexpr pg::TableForm FormOf(const ColumnForm (&columns)[N], RowsFrom rows_from) {
    return {columns, static_cast<int>(N), rows_from};
}

constexpr pg::TableForm kSubscriptionForm = FormOf(kSubscriptionColumnForms, RowsFrom::kStatements);
constexpr pg::TableForm kFailureForm = FormOf(kFailureColumnForms, RowsFrom::kCertainStatements);
constexpr pg::TableForm kPointerForm = FormOf(kPointerColumnForms, RowsFrom::kStatements);
constexpr pg::TableForm kAuditKeyForm = FormOf(kAuditKeyColumnForms, RowsFrom::kStatements);

}  // namespace

constexpr pg::TableForm kIdForm = FormOf(kIdColumnForms, RowsFrom::kDirectInserts);
constexpr pg::TableForm kLogForm = FormOf(kLogColumnForms, RowsFrom::kDirectInserts);
constexpr pg::TableForm kSettledForm = FormOf(kSettledColumnForms, RowsFrom::kCertainInserts);
constexpr pg::TableForm kParkedForm = FormOf(kParkedColumnForms, RowsFrom::kCertainStatements);
constexpr pg::TableForm kChannelForm = FormOf(kChannelColumnForms, RowsFrom::kStatements);
constexpr pg::TableForm kChannelGrantForm = FormOf(kChannelGrantColumnForms, RowsFrom::kStatements);
constexpr pg::TableForm kDeadLetterForm = FormOf(kDeadLetterColumnForms, RowsFrom::kCertainStatements);
constexpr pg::TableForm kChangeFeedForm = FormOf(kChangeFeedColumnForms, RowsFrom::kStatements);
constexpr pg::TableForm kAuditTargetForm = FormOf(kAuditTargetColumnForms, RowsFrom::kStatements);
constexpr pg::TableForm kAuditForm = FormOf(kAuditColumnForms, RowsFrom::kDirectInserts);
constexpr pg::TableForm kAuditContextForm = FormOf(kAuditContextColumnForms, RowsFrom::kDirectInserts);

namespace {

struct OwnTable {
    const char *name;  // with a number for each where there are several
    int count;
    const pg::TableForm *form;
    bool of_tasks;
};

constexpr OwnTable kOwnTables[] = {
    {"id_store", 1, &kIdForm, true},
    {"channel_store", 1, &kChannelForm, true},
    {"channel_grant_store", 1, &kChannelGrantForm, false},
    {"log_%d", pg::kSegments, &kLogForm, true},
    {"settled_%d", pg::kSegments, &kSettledForm, true},
    {"subscription_store", 1, &kSubscriptionForm, true},
    {"parked_store", 1, &kParkedForm, true},
    {"dead_letter_store", 1, &kDeadLetterForm, true},
    {"failure_store", 1, &kFailureForm, true},
    {"pointer_store", 1, &kPointerForm, false},
    {"audit_target", 1, &kAuditTargetForm, false},
    {"audit_key", 1, &kAuditKeyForm, false},
    {"audit_%d", 8, &kAuditForm, false},
    {"audit_context_%d", 8, &kAuditContextForm, false},
    {"change_feed_store", 1, &kChangeFeedForm, false},
};

// At most as many as there are.
constexpr int kMaxTables = 64;

// Those of the extension that `oids_of` names, as they were found last; InvalidOid: not there.
Oid oids[kMaxTables];
Oid oids_of = InvalidOid;

TimestampTz logged_at = 0;  // by TaskTablesFit

const char *NameOf(const OwnTable &own, int number) { return psprintf(own.name, number); }

// Calls visit(table, number, oid) for each.
template <typename Visit>
void ForEachTable(Visit &&visit) {
    const Oid extension = pg::Tables().extension;
    const Oid schema = pg::Tables().internal;
    const bool known = oids_of == extension;
    oids_of = InvalidOid;
    Oid *oid = oids;
    for (const OwnTable &own : kOwnTables)
        for (int i = 0; i < own.count; i++, oid++) {
            if (!known || !OidIsValid(*oid)) *oid = get_relname_relid(NameOf(own, i), schema);
            visit(own, i, *oid);
        }
    oids_of = extension;
}

// A table that somebody has locked is not waited for: it is looked at next time.
const char *MisfitOf(Oid oid, const pg::TableForm &form) {
    if (!OidIsValid(oid)) return "It is missing.";
    if (pg::KnownToFit(oid) || !ConditionalLockRelationOid(oid, AccessShareLock)) return nullptr;
    Relation table = try_table_open(oid, NoLock);
    const char *misfit = table == nullptr ? "It is missing." : pg::FindMisfit(table, form);
    if (table != nullptr) table_close(table, NoLock);
    UnlockRelationOid(oid, AccessShareLock);
    return misfit;
}

}  // namespace

const char *FindMisfits() {
    StringInfoData text;
    initStringInfo(&text);
    ForEachTable([&](const OwnTable &own, int number, Oid oid) {
        const char *misfit = MisfitOf(oid, *own.form);
        if (misfit != nullptr)
            appendStringInfo(&text, "%s%s: %s", text.len == 0 ? "" : " ", NameOf(own, number), misfit);
    });
    return text.len == 0 ? nullptr : text.data;
}

void RequireTaskTables() {
    ForEachTable([](const OwnTable &own, int number, Oid oid) {
        const char *misfit = own.of_tasks ? MisfitOf(oid, *own.form) : nullptr;
        if (misfit != nullptr) pg::ReportMisfit(NameOf(own, number), misfit);
    });
}

bool TaskTablesFit() {
    const char *first = nullptr;
    const char *name = nullptr;
    ForEachTable([&](const OwnTable &own, int number, Oid oid) {
        if (!own.of_tasks || first != nullptr) return;
        first = MisfitOf(oid, *own.form);
        if (first != nullptr) name = NameOf(own, number);
    });
    const TimestampTz now = GetCurrentTimestamp();
    if (first != nullptr && now - logged_at >= USECS_PER_MINUTE) {
        logged_at = now;
        ereport(LOG,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("no task is run, as table \"herald_internal.%s\" does not have the form that this version of "
                        "pg_herald needs",
                        name),
                 errdetail("%s", first), errhint("%s", pg::kMisfitHint)));
    }
    return first == nullptr;
}

}  // namespace herald
