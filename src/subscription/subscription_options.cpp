// See subscription_options.hpp.

#include "pg/pg.hpp"

#include "pg/interval.hpp"
#include "pg/roles.hpp"
#include "subscription/role_check.hpp"
#include "subscription/subscription_options.hpp"

extern "C" {
#include "access/xact.h"
}

namespace herald {

namespace {

// A later time of the next attempt could leave the range of timestamps.
constexpr int64 kLongestDelay = INT64CONST(36500) * USECS_PER_DAY;
// The server's timers count milliseconds in an int.
constexpr int64 kLongestTimeout = INT64CONST(24) * USECS_PER_DAY;

void CheckCount(const char *option, std::optional<int32> value, int32 least, int32 most) {
    if (!value || (*value >= least && *value <= most)) return;
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be between %d and %d", option, least, most)));
}

void CheckInterval(const char *option, const Interval *value, int64 longest) {
    if (value == nullptr) return;
    if (!pg::IntervalIsFinite(value) || pg::IntervalMicroseconds(value) < 0)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be finite and not negative", option)));
    if (pg::IntervalMicroseconds(value) > longest)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must not be longer than %d days", option,
                                                                         static_cast<int>(longest / USECS_PER_DAY))));
}

}  // namespace

void CheckSubscriptionName(const char *name) {
    const std::size_t length = std::strlen(name);
    if (length >= 1 && length < NAMEDATALEN) return;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("a subscription name must have between 1 and %d bytes", NAMEDATALEN - 1),
                    errdetail("The name given has %zu bytes.", length)));
}

int IsolationFromName(const char *name) {
    if (std::strcmp(name, "read committed") == 0) return XACT_READ_COMMITTED;
    if (std::strcmp(name, "repeatable read") == 0) return XACT_REPEATABLE_READ;
    return std::strcmp(name, "serializable") == 0 ? XACT_SERIALIZABLE : -1;
}

void CheckSubscriptionOptions(const SubscriptionOptions &options) {
    if (options.isolation != nullptr && IsolationFromName(options.isolation) < 0)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid isolation: \"%s\"", options.isolation),
                 errhint("Allowed are \"read committed\", \"repeatable read\" and \"serializable\".")));
    CheckCount("max_concurrency", options.max_concurrency, 1, 1000);
    CheckCount("max_attempts", options.max_attempts, 1, 1000);
    CheckInterval("retry_delay", options.retry_delay, kLongestDelay);
    CheckInterval("max_retry_delay", options.max_retry_delay, kLongestDelay);
    CheckInterval("timeout", options.timeout, kLongestTimeout);
    // Also refuses NaN, which is no number of times longer.
    if (options.retry_backoff && !(*options.retry_backoff >= 1 && *options.retry_backoff <= 1e6))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("retry_backoff must be between 1 and 1000000")));
    if (options.start_at != nullptr && std::strcmp(options.start_at, "new") != 0 &&
        std::strcmp(options.start_at, "earliest") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid start_at: \"%s\"", options.start_at),
                        errhint("Allowed are \"new\" and \"earliest\".")));
}

void CheckRunAs(Oid role, const char *name) {
    if (OidIsValid(role) && !pg::CanBecome(GetUserId(), role))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied to run handlers as role \"%s\"", name),
                        errhint("Only a member of that role may choose it.")));
    int sqlstate;
    const char *hint;
    const char *problem = RoleProblem(role, name, &sqlstate, &hint);
    if (problem != nullptr) ereport(ERROR, (errcode(sqlstate), errmsg("%s", problem), errhint("%s", hint)));
}

Oid CheckNewOwner(const char *name, const char *subscription, Oid run_as, const char *run_as_name) {
    const Oid role = pg::RoleByName(name);
    if (!OidIsValid(role))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role \"%s\" does not exist", name)));
    if (!pg::CanBecome(GetUserId(), role))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("must be a member of role \"%s\" to give it subscription \"%s\"", name, subscription)));
    // Else it would be held at once.
    if (!pg::CanBecome(role, run_as))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("role \"%s\" may not run handlers as role \"%s\"", name, run_as_name),
                        errhint("Make it a member of that role, or choose another one by run_as.")));
    return role;
}

}  // namespace herald
