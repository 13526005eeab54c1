// See subscription_admin.hpp.

#include "pg/pg.hpp"

#include "channel/channel.hpp"
#include "channel/channel_admin.hpp"
#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/identity.hpp"
#include "pg/spi.hpp"
#include "settings.hpp"
#include "subscription/progress.hpp"
#include "subscription/subscription.hpp"
#include "subscription/subscription_admin.hpp"

extern "C" {
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
}

namespace herald {

namespace {

pg::Param OptionalInterval(const Interval *value) {
    return pg::IntervalDatum(PointerGetDatum(value), value == nullptr);
}

pg::Param OptionalInt4(std::optional<int32> value) {
    return {INT4OID, Int32GetDatum(value.value_or(0)), !value.has_value()};
}

void TellAtCommit() {
    pg::InvalidateCatalogCaches();
    RaiseFlagAtCommit(kFlagReload);
}

// The durable channel to subscribe to, declared here where nobody has.
int32 RequireSubscribableChannel(const char *name) {
    CheckChannelName(name, std::strlen(name));
    const Channel &channel = LookUpChannel(name);
    if (!channel.declared) return DeclareForSubscription(name);
    if ((channel.privileges & kPrivilegeSubscribe) == 0)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied to subscribe to channel \"%s\"", name),
                        errhint("Its owner can grant it: SELECT herald.grant_channel(channel, role, "
                                "'{subscribe}').")));
    if (!channel.durable)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("channel \"%s\" is ephemeral", name),
                        errdetail("A subscription needs the messages stored."),
                        errhint("Make it durable: SELECT herald.alter_channel(channel, durable => true).")));
    return channel.id;
}

// As many as the default are nobody's wish.
void ReportConcurrency(const char *name, std::optional<int32> max_concurrency) {
    constexpr int32 kDefault = 4;
    if (max_concurrency.value_or(0) <= Max(settings::max_workers, kDefault)) return;
    ereport(NOTICE, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                     errmsg("max_concurrency of subscription \"%s\" is above herald.max_workers", name),
                     errdetail("No more than %d tasks run at a time.", settings::max_workers),
                     errhint("Raise herald.max_workers.")));
}

void ReportTaken(const char *name, bool if_not_exists) {
    if (if_not_exists)
        ereport(NOTICE, (errcode(ERRCODE_DUPLICATE_OBJECT),
                         errmsg("subscription \"%s\" already exists, skipping", name)));
    else
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
                        errmsg("subscription \"%s\" already exists", name),
                        errhint("Use herald.alter_subscription() to change it.")));
}

// Settles for a new subscription what the channel's log shows now. Messages whose transaction is still
// open are not seen here and so get delivered.
void SettleExisting(int32 id, int32 channel_id) {
    for (int segment = 0; segment < pg::kSegments; segment++) {
        char *sql = psprintf(
            "INSERT INTO herald.settled_%d (subscription_id, message_ids) "
            "SELECT $1, pg_catalog.array_agg(m.id) FROM ("
            "SELECT l.id, (pg_catalog.row_number() OVER () - 1) / 1000 AS chunk "
            "FROM herald.log_%d AS l WHERE l.channel_id = $2) AS m GROUP BY m.chunk",
            segment, segment);
        pg::SpiRun(sql, std::array{pg::Int4(id), pg::Int4(channel_id)});
    }
}

}  // namespace

void Subscribe(const char *name, const SubscriptionOptions &options, bool if_not_exists) {
    CheckSubscriptionName(name);
    CheckSubscriptionOptions(options);
    if (LoadSubscriptionByName(name, CurrentMemoryContext) != nullptr) {
        ReportTaken(name, if_not_exists);
        return;
    }
    const char *owner = GetUserNameFromId(GetUserId(), false);
    const char *run_as = options.run_as == nullptr ? owner : options.run_as;
    Oid role = CheckRunAs(run_as);
    const char *handler = CheckHandler(options.handler, role, run_as);
    int32 channel_id = RequireSubscribableChannel(options.channel);
    char *system_identifier = psprintf(UINT64_FORMAT, GetSystemIdentifier());

    // No rotation until the dispatcher knows the subscription: it would not park messages for it.
    for (Oid segment : pg::Tables().log) LockRelationOid(segment, AccessShareLock);

    pg::Identity caller = pg::BecomeOwner();
    pg::SpiBegin();
    // The channel must not be dropped between the look at it and our commit.
    if (pg::SpiRun("SELECT FROM herald.channel_store WHERE id = $1 FOR KEY SHARE",
                   std::array{pg::Int4(channel_id)}) == 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("channel \"%s\" was dropped meanwhile", options.channel)));
    bool inserted =
        pg::SpiRun("INSERT INTO herald.subscription_store (subscription, channel_id, owner, handler, "
                   "run_as, max_concurrency, max_attempts, retry_delay, retry_backoff, "
                   "max_retry_delay, timeout, batch, system_identifier, database_oid) "
                   "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
                   "ON CONFLICT (subscription) DO NOTHING RETURNING id",
                   std::array{pg::Text(name), pg::Int4(channel_id), pg::Text(owner),
                              pg::Text(handler), pg::Text(run_as),
                              OptionalInt4(options.max_concurrency),
                              OptionalInt4(options.max_attempts),
                              OptionalInterval(options.retry_delay),
                              pg::Float8(options.retry_backoff.value_or(1)),
                              OptionalInterval(options.max_retry_delay),
                              OptionalInterval(options.timeout),
                              pg::Bool(options.batch.value_or(true)),
                              pg::Text(system_identifier), pg::Int8(MyDatabaseId)}) > 0;
    if (inserted && std::strcmp(options.start_at, "new") == 0)
        SettleExisting(pg::SpiInt4(0, 1), channel_id);
    pg::SpiEnd();
    pg::BecomeCaller(caller);

    if (!inserted) {
        ReportTaken(name, if_not_exists);
        return;
    }
    TellAtCommit();
    ReportConcurrency(name, options.max_concurrency);
}

void AlterSubscription(const char *name, const SubscriptionOptions &options) {
    CheckSubscriptionOptions(options);
    Subscription *subscription = FindOwnedSubscription(name);

    if (options.channel != nullptr && std::strcmp(options.channel, subscription->channel) != 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("the channel of a subscription cannot be changed"),
                        errdetail("Subscription \"%s\" reads channel \"%s\".", name,
                                  subscription->channel),
                        errhint("Make another subscription, and unsubscribe this one when it is idle.")));
    const char *handler = nullptr;
    if (options.handler != nullptr || options.run_as != nullptr) {
        // Each of the two decides what the other one is worth.
        const char *run_as = options.run_as == nullptr ? subscription->run_as : options.run_as;
        handler = CheckHandler(options.handler == nullptr ? subscription->handler : options.handler,
                               CheckRunAs(run_as), run_as);
    }

    pg::Identity caller = pg::BecomeOwner();
    pg::SpiBegin();
    pg::SpiRun("UPDATE herald.subscription_store SET "
               "handler = COALESCE($2, handler), run_as = COALESCE($3, run_as), "
               "max_concurrency = COALESCE($4, max_concurrency), "
               "max_attempts = COALESCE($5, max_attempts), "
               "retry_delay = COALESCE($6, retry_delay), "
               "retry_backoff = COALESCE($7, retry_backoff), "
               "max_retry_delay = COALESCE($8, max_retry_delay), "
               "timeout = COALESCE($9, timeout), batch = COALESCE($10, batch), "
               "state = CASE WHEN state = 'held' AND $2 IS NOT NULL THEN 'active' ELSE state END, "
               "reason = CASE WHEN state = 'held' AND $2 IS NOT NULL THEN NULL ELSE reason END "
               "WHERE id = $1",
               std::array{pg::Int4(subscription->id), pg::Text(handler), pg::Text(options.run_as),
                          OptionalInt4(options.max_concurrency), OptionalInt4(options.max_attempts),
                          OptionalInterval(options.retry_delay),
                          pg::Param{FLOAT8OID, Float8GetDatum(options.retry_backoff.value_or(0)),
                                    !options.retry_backoff.has_value()},
                          OptionalInterval(options.max_retry_delay),
                          OptionalInterval(options.timeout),
                          pg::Param{BOOLOID, BoolGetDatum(options.batch.value_or(false)),
                                    !options.batch.has_value()}});
    pg::SpiEnd();
    TellAtCommit();
    pg::BecomeCaller(caller);
    ReportConcurrency(name, options.max_concurrency);
}

void Unsubscribe(const char *name, bool force) {
    Subscription *subscription = FindOwnedSubscription(name);
    if (!force) {
        OpenTasks open = CountOpenTasks(*subscription);
        if (open.pending + open.parked + open.dead > 0)
            ereport(ERROR,
                    (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                     errmsg("subscription \"%s\" still has tasks", name),
                     errdetail("%lld pending, %lld waiting for another attempt, %lld dead letters.",
                               static_cast<long long>(open.pending),
                               static_cast<long long>(open.parked),
                               static_cast<long long>(open.dead)),
                     errhint("Wait for them by herald.wait_idle(), replay or discard the dead letters, "
                             "or throw all of them away by force => true.")));
    }

    pg::Identity caller = pg::BecomeOwner();
    pg::SpiBegin();
    const pg::Param id = pg::Int4(subscription->id);
    // First, as it waits for workers that are about to park a task (see KeepSubscription).
    pg::SpiRun("DELETE FROM herald.subscription_store WHERE id = $1", std::array{id});
    pg::SpiRun("DELETE FROM herald.parked_store WHERE subscription_id = $1", std::array{id});
    pg::SpiRun("DELETE FROM herald.dead_letter_store WHERE subscription_id = $1", std::array{id});
    pg::SpiEnd();
    TellAtCommit();
    pg::BecomeCaller(caller);
}

}  // namespace herald
