// See subscription_admin.hpp.

#include "pg/pg.hpp"

#include "channel/channel.hpp"
#include "channel/channel_admin.hpp"
#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/roles.hpp"
#include "pg/spi.hpp"
#include "settings.hpp"
#include "stats/subscription_counters.hpp"
#include "subscription/progress.hpp"
#include "subscription/role_check.hpp"
#include "subscription/subscription.hpp"
#include "subscription/subscription_admin.hpp"

extern "C" {
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"
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
    RaiseFlagAtCommit(kFlagReload | kFlagSubscribed);
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
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("channel \"%s\" is ephemeral", name),
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
        ereport(NOTICE,
                (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("subscription \"%s\" already exists, skipping", name)));
    else
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("subscription \"%s\" already exists", name),
                        errhint("Use herald.alter_subscription() to change it.")));
}

// Settles for a new subscription what the channel's log shows now. Messages whose transaction is still
// open are not seen here and so get delivered.
void SettleExisting(int32 id, int32 channel_id) {
    pg::ReadWithoutIndexes();
    for (int segment = 0; segment < pg::kSegments; segment++) {
        char *sql = psprintf(
            "INSERT INTO herald_internal.settled_%d (subscription_id, message_ids) "
            "SELECT $1, pg_catalog.array_agg(m.id) FROM ("
            "SELECT l.id, (pg_catalog.row_number() OVER () - 1) / 1000 AS chunk "
            "FROM herald_internal.log_%d AS l WHERE l.channel_id = $2) AS m GROUP BY m.chunk",
            segment, segment);
        pg::SpiRun(sql, std::array{pg::Int4(id), pg::Int4(channel_id)});
    }
}

// What a new owner needs besides the role: what making the subscription takes.
void RequireNewOwnerRights(const Subscription &subscription, Oid owner, const char *owner_name, Oid function) {
    if (superuser()) return;
    const Channel *channel = LookUpChannelById(subscription.channel_id);
    if (channel == nullptr || (PrivilegesOf(channel->id, channel->owner, owner) & kPrivilegeSubscribe) == 0)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("role \"%s\" may not subscribe to channel \"%s\"", owner_name, subscription.channel),
                        errhint("The channel's owner can grant it: SELECT herald.grant_channel(channel, role, "
                                "'{subscribe}').")));
    if (!MayExecuteHandler(function, owner))
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("role \"%s\" may not execute the handler", owner_name),
                 errhint("Grant it EXECUTE on the function and USAGE on its schema.")));
}

// Roles and handler as they shall be; strings are NULL where the row keeps them.
struct NewDefinition {
    const char *handler;
    const char *handler_owner;
    const char *handler_owner_role;
    const char *run_as_role;
    const char *owner_role;
};

// Each of the three decides what the others are worth.
NewDefinition CheckNewDefinition(const Subscription &subscription, const SubscriptionOptions &options) {
    NewDefinition definition = {};
    if (options.handler == nullptr && options.run_as == nullptr && options.owner == nullptr) return definition;

    const char *run_as = options.run_as == nullptr ? subscription.run_as : options.run_as;
    const Oid role = options.run_as == nullptr ? subscription.role : pg::RoleByName(run_as);
    CheckRunAs(role, run_as);
    Oid function;
    definition.handler =
        CheckHandler(options.handler == nullptr ? subscription.handler : options.handler, role, run_as, &function);
    if (options.handler != nullptr) {
        const Oid handler_owner = OwnerOfFunction(function);
        definition.handler_owner = pg::RoleNameNow(handler_owner, nullptr);
        definition.handler_owner_role = pg::RoleIdentity(handler_owner);
    } else {
        // It was not named again: then it must still be the one that was meant.
        Subscription changed = subscription;
        changed.role = role;
        changed.run_as = const_cast<char *>(run_as);
        int sqlstate;
        const char *problem = HandlerProblem(changed, &function, &sqlstate);
        if (problem != nullptr)
            ereport(ERROR,
                    (errcode(sqlstate), errmsg("%s", problem), errhint("Name the handler that is meant, by handler.")));
    }
    if (options.run_as != nullptr) definition.run_as_role = pg::RoleIdentity(role);
    if (options.owner != nullptr) {
        const Oid owner = CheckNewOwner(options.owner, subscription.name, role, run_as);
        RequireNewOwnerRights(subscription, owner, options.owner, function);
        definition.owner_role = pg::RoleIdentity(owner);
    }
    return definition;
}

// No place is left. Perhaps for subscriptions of this database that are gone, or never came to be.
SubscriptionShared *PlaceAfterCleaning(int32 id, TransactionId xid) {
    int count;
    SettleReservations(MyDatabaseId);
    PushActiveSnapshot(GetLatestSnapshot());
    Subscription *subscriptions = LoadSubscriptions(CurrentMemoryContext, &count);
    PopActiveSnapshot();
    int32 *ids = static_cast<int32 *>(palloc(sizeof(int32) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; i++) ids[i] = subscriptions[i].id;
    KeepSubscriptions(MyDatabaseId, ids, count);
    return PlaceSubscription(MyDatabaseId, id, GetUserId(), xid);
}

// The new subscription gets its place now, or is refused: later nobody could be told.
void RequirePlace(int32 id) {
    const TransactionId xid = GetTopTransactionId();
    if (PlaceSubscription(MyDatabaseId, id, GetUserId(), xid) != nullptr || PlaceAfterCleaning(id, xid) != nullptr)
        return;
    const SubscriptionPlaces places = ReadSubscriptionPlaces();
    ereport(
        ERROR,
        (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
         errmsg("no place is left for another subscription of this role"),
         errdetail("%d of %d places of the server are in use. A role may have as many as are left, all roles of a "
                   "database three times as many.",
                   places.used, places.capacity),
         errhint("Unsubscribe what is no longer needed, or raise herald.max_subscriptions and restart the server.")));
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
    const Oid role = pg::RoleByName(run_as);
    CheckRunAs(role, run_as);
    Oid function;
    const char *handler = CheckHandler(options.handler, role, run_as, &function);
    const Oid handler_owner = OwnerOfFunction(function);
    const char *handler_owner_name = pg::RoleNameNow(handler_owner, nullptr);
    const char *owner_role = pg::RoleIdentity(GetUserId());
    int32 channel_id = RequireSubscribableChannel(options.channel);
    char *system_identifier = psprintf(UINT64_FORMAT, GetSystemIdentifier());

    // No rotation until the dispatcher knows the subscription: it would not park messages for it.
    for (Oid segment : pg::Tables().log) LockRelationOid(segment, AccessShareLock);

    // The new id; 0: the name is taken.
    const int32 id = pg::AsOwner([&] {
        // The channel must not be dropped between the look at it and our commit.
        if (pg::SpiRun("SELECT FROM herald_internal.channel_store WHERE id = $1 FOR KEY SHARE",
                       std::array{pg::Int4(channel_id)}) == 0)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                            errmsg("channel \"%s\" was dropped meanwhile", options.channel)));
        const bool inserted =
            pg::SpiRun(
                "INSERT INTO herald_internal.subscription_store (subscription, channel_id, owner, handler, "
                "run_as, max_concurrency, max_attempts, retry_delay, retry_backoff, "
                "max_retry_delay, timeout, batch, system_identifier, database_oid, "
                "owner_role, run_as_role, handler_owner, handler_owner_role, isolation) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) "
                "ON CONFLICT (subscription) DO NOTHING RETURNING id",
                std::array{pg::Text(name), pg::Int4(channel_id), pg::Text(owner), pg::Text(handler), pg::Text(run_as),
                           OptionalInt4(options.max_concurrency), OptionalInt4(options.max_attempts),
                           OptionalInterval(options.retry_delay), pg::Float8(options.retry_backoff.value_or(1)),
                           OptionalInterval(options.max_retry_delay), OptionalInterval(options.timeout),
                           pg::Bool(options.batch.value_or(true)), pg::Text(system_identifier), pg::Int8(MyDatabaseId),
                           pg::Text(owner_role), pg::Text(pg::RoleIdentity(role)), pg::Text(handler_owner_name),
                           pg::Text(pg::RoleIdentity(handler_owner)),
                           pg::Text(options.isolation == nullptr ? "read committed" : options.isolation)}) > 0;
        if (!inserted) return 0;
        const int32 new_id = pg::SpiInt4(0, 1);
        if (std::strcmp(options.start_at, "new") == 0) SettleExisting(new_id, channel_id);
        return new_id;
    });

    if (id == 0) {
        ReportTaken(name, if_not_exists);
        return;
    }
    RequirePlace(id);
    TellAtCommit();
    ReportConcurrency(name, options.max_concurrency);
}

void AlterSubscription(const char *name, const SubscriptionOptions &options) {
    CheckSubscriptionOptions(options);
    Subscription *subscription = FindOwnedSubscription(name);

    if (options.channel != nullptr && std::strcmp(options.channel, subscription->channel) != 0)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("the channel of a subscription cannot be changed"),
                 errdetail("Subscription \"%s\" reads channel \"%s\".", name, subscription->channel),
                 errhint("Make another subscription, and unsubscribe this one when it is idle.")));
    const NewDefinition definition = CheckNewDefinition(*subscription, options);

    pg::AsOwner([&] {
        pg::SpiRun(
            "UPDATE herald_internal.subscription_store SET "
            "handler = COALESCE($2, handler), run_as = COALESCE($3, run_as), "
            "max_concurrency = COALESCE($4, max_concurrency), "
            "max_attempts = COALESCE($5, max_attempts), "
            "retry_delay = COALESCE($6, retry_delay), "
            "retry_backoff = COALESCE($7, retry_backoff), "
            "max_retry_delay = COALESCE($8, max_retry_delay), "
            "timeout = COALESCE($9, timeout), batch = COALESCE($10, batch), "
            "run_as_role = COALESCE($11, run_as_role), "
            "owner = COALESCE($12, owner), owner_role = COALESCE($13, owner_role), "
            "handler_owner = COALESCE($14, handler_owner), "
            "handler_owner_role = COALESCE($15, handler_owner_role), "
            "isolation = COALESCE($16, isolation), "
            "state = CASE WHEN state = 'held' AND $2 IS NOT NULL THEN 'active' ELSE state END, "
            "reason = CASE WHEN state = 'held' AND $2 IS NOT NULL THEN NULL ELSE reason END "
            "WHERE id = $1",
            std::array{pg::Int4(subscription->id), pg::Text(definition.handler), pg::Text(options.run_as),
                       OptionalInt4(options.max_concurrency), OptionalInt4(options.max_attempts),
                       OptionalInterval(options.retry_delay),
                       pg::Param{FLOAT8OID, Float8GetDatum(options.retry_backoff.value_or(0)),
                                 !options.retry_backoff.has_value()},
                       OptionalInterval(options.max_retry_delay), OptionalInterval(options.timeout),
                       pg::Param{BOOLOID, BoolGetDatum(options.batch.value_or(false)), !options.batch.has_value()},
                       pg::Text(definition.run_as_role), pg::Text(options.owner), pg::Text(definition.owner_role),
                       pg::Text(definition.handler_owner), pg::Text(definition.handler_owner_role),
                       pg::Text(options.isolation)});
        TellAtCommit();
    });
    ReportConcurrency(name, options.max_concurrency);
}

void Unsubscribe(const char *name, bool force) {
    Subscription *subscription = FindOwnedSubscription(name);
    if (!force) {
        OpenTasks open = CountOpenTasks(*subscription);
        if (open.pending + open.parked + open.dead > 0)
            ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                            errmsg("subscription \"%s\" still has tasks", name),
                            errdetail("%lld pending, %lld waiting for another attempt, %lld dead letters.",
                                      static_cast<long long>(open.pending), static_cast<long long>(open.parked),
                                      static_cast<long long>(open.dead)),
                            errhint("Wait for them by herald.wait_idle(), replay or discard the dead letters, "
                                    "or throw all of them away by force => true.")));
    }

    pg::AsOwner([&] {
        const pg::Param id = pg::Int4(subscription->id);
        // First, as it waits for workers that are about to park a task (see KeepSubscription).
        pg::SpiRun("DELETE FROM herald_internal.subscription_store WHERE id = $1", std::array{id});
        pg::SpiRun("DELETE FROM herald_internal.parked_store WHERE subscription_id = $1", std::array{id});
        pg::SpiRun("DELETE FROM herald_internal.dead_letter_store WHERE subscription_id = $1", std::array{id});
        TellAtCommit();
    });
}

}  // namespace herald
