// See subscription_options.hpp.

#include "pg/pg.hpp"

#include "pg/interval.hpp"
#include "pg/roles.hpp"
#include "settings.hpp"
#include "subscription/subscription_options.hpp"

extern "C" {
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
}

namespace herald {

namespace {

// A later time of the next attempt could leave the range of timestamps.
constexpr int64 kLongestDelay = INT64CONST(36500) * USECS_PER_DAY;
// The server's timers count milliseconds in an int.
constexpr int64 kLongestTimeout = INT64CONST(24) * USECS_PER_DAY;

void CheckCount(const char *option, std::optional<int32> value, int32 least, int32 most) {
    if (!value || (*value >= least && *value <= most)) return;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("%s must be between %d and %d", option, least, most)));
}

void CheckInterval(const char *option, const Interval *value, int64 longest) {
    if (value == nullptr) return;
    if (!pg::IntervalIsFinite(value) || pg::IntervalMicroseconds(value) < 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be finite and not negative", option)));
    if (pg::IntervalMicroseconds(value) > longest)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must not be longer than %d days", option,
                               static_cast<int>(longest / USECS_PER_DAY))));
}

bool MayLogIn(Oid role) {
    HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
    if (!HeapTupleIsValid(tuple)) return false;
    bool may = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple))->rolcanlogin;
    ReleaseSysCache(tuple);
    return may;
}

}  // namespace

void CheckSubscriptionName(const char *name) {
    const std::size_t length = std::strlen(name);
    if (length >= 1 && length < NAMEDATALEN) return;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("a subscription name must have between 1 and %d bytes", NAMEDATALEN - 1),
                    errdetail("The name given has %zu bytes.", length)));
}

void CheckSubscriptionOptions(const SubscriptionOptions &options) {
    CheckCount("max_concurrency", options.max_concurrency, 1, 1000);
    CheckCount("max_attempts", options.max_attempts, 1, 1000);
    CheckInterval("retry_delay", options.retry_delay, kLongestDelay);
    CheckInterval("max_retry_delay", options.max_retry_delay, kLongestDelay);
    CheckInterval("timeout", options.timeout, kLongestTimeout);
    // Also refuses NaN, which is no number of times longer.
    if (options.retry_backoff && !(*options.retry_backoff >= 1 && *options.retry_backoff <= 1e6))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("retry_backoff must be between 1 and 1000000")));
    if (options.start_at != nullptr && std::strcmp(options.start_at, "new") != 0 &&
        std::strcmp(options.start_at, "earliest") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("invalid start_at: \"%s\"", options.start_at),
                        errhint("Allowed are \"new\" and \"earliest\".")));
}

Oid CheckRunAs(const char *name) {
    Oid role = pg::RoleByName(name);
    if (!OidIsValid(role))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("role \"%s\" does not exist", name)));
    if (!pg::CanBecome(GetUserId(), role))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied to run handlers as role \"%s\"", name),
                        errhint("Only a member of that role may choose it.")));
    if (superuser_arg(role) && !settings::superuser_handlers)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("handlers may not run as superuser \"%s\"", name),
                        errhint("Name another role by run_as, or turn on herald.superuser_handlers.")));
    if (pg::kWorkersNeedLogin && !MayLogIn(role))
        ereport(ERROR, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
                        errmsg("role \"%s\" is not permitted to log in", name),
                        errhint("Before PostgreSQL 17 a role without LOGIN can't run handlers: ALTER ROLE "
                                "... LOGIN, without a password.")));
    if (!pg::HasDatabasePrivilege(MyDatabaseId, role, ACL_CONNECT))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("role \"%s\" may not connect to database \"%s\"", name,
                               get_database_name(MyDatabaseId)),
                        errhint("Grant it CONNECT on the database.")));
    return role;
}

}  // namespace herald
