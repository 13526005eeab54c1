// See subscription.hpp. One query reads the rows; what PostgreSQL's catalogs know (roles) is resolved
// here, because tables keep role names only.

#include "pg/pg.hpp"

#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/interval.hpp"
#include "pg/roles.hpp"
#include "pg/saved_plan.hpp"
#include "subscription/subscription.hpp"
#include "subscription/subscription_options.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
}

namespace herald {

namespace {

#define SUBSCRIPTION_COLUMNS                                                                 \
    "SELECT s.id, s.subscription, s.channel_id, c.channel, s.handler, s.owner, s.run_as, "   \
    "s.max_concurrency, s.max_attempts, s.retry_delay, s.retry_backoff, s.max_retry_delay, " \
    "s.timeout, s.batch, s.state, s.reason, s.system_identifier, s.database_oid, "           \
    "s.owner_role, s.run_as_role, s.handler_owner, s.handler_owner_role, s.isolation "       \
    "FROM herald_internal.subscription_store AS s "                                          \
    "JOIN herald_internal.channel_store AS c ON c.id = s.channel_id "

pg::SavedPlan select_by_id = {SUBSCRIPTION_COLUMNS "WHERE s.id = $1"};
pg::SavedPlan select_by_name = {SUBSCRIPTION_COLUMNS "WHERE s.subscription = $1"};
pg::SavedPlan select_all = {SUBSCRIPTION_COLUMNS "ORDER BY s.id"};
pg::SavedPlan lock_row = {"SELECT FROM herald_internal.subscription_store WHERE id = $1 FOR KEY SHARE SKIP LOCKED"};

pg::SavedPlan update_held = {
    "UPDATE herald_internal.subscription_store SET state = 'held', reason = $2 WHERE id IN ("
    "SELECT id FROM herald_internal.subscription_store WHERE id = $1 AND state = 'active' "
    "FOR NO KEY UPDATE SKIP LOCKED)"};
// After one of these found no row: was it passed over, as somebody has it locked?
pg::SavedPlan select_state = {"SELECT state FROM herald_internal.subscription_store WHERE id = $1"};

char *CopyText(uint64 row, int column, MemoryContext context) {
    char *value = pg::SpiText(row, column);
    return value == nullptr ? nullptr : MemoryContextStrdup(context, value);
}

int64 IntervalAt(uint64 row, int column) {
    const pg::Field interval = pg::SpiField(row, column, INTERVALOID);
    return interval.is_null ? 0 : pg::IntervalMicroseconds(DatumGetIntervalP(interval.value));
}

SubscriptionState StateFromName(const char *name) {
    if (std::strcmp(name, "active") == 0) return SubscriptionState::kActive;
    if (std::strcmp(name, "paused") == 0) return SubscriptionState::kPaused;
    return SubscriptionState::kHeld;
}

bool BelongsHere(const char *system_identifier, int64 database) {
    char here[32];
    snprintf(here, sizeof(here), UINT64_FORMAT, GetSystemIdentifier());
    return std::strcmp(system_identifier, here) == 0 && database == static_cast<int64>(MyDatabaseId);
}

// The role that is stored in two columns, with its name now; both are NULL where nothing is stored.
Oid RoleAt(uint64 row, int name_column, int identity_column, MemoryContext context, char **name) {
    char *stored = pg::SpiText(row, name_column);
    *name = nullptr;
    if (stored == nullptr) return InvalidOid;
    const Oid role = pg::StoredRole(stored, pg::SpiText(row, identity_column));
    *name = MemoryContextStrdup(context, pg::RoleNameNow(role, stored));
    return role;
}

void ReadRow(uint64 row, MemoryContext context, Subscription *subscription) {
    subscription->id = pg::SpiInt4(row, 1);
    subscription->name = CopyText(row, 2, context);
    subscription->channel_id = pg::SpiInt4(row, 3);
    subscription->channel = CopyText(row, 4, context);
    subscription->handler = CopyText(row, 5, context);
    subscription->handler_kind = KindOfHandler(subscription->handler);
    subscription->owner_role = RoleAt(row, 6, 19, context, &subscription->owner);
    subscription->role = RoleAt(row, 7, 20, context, &subscription->run_as);
    subscription->handler_owner_role = RoleAt(row, 21, 22, context, &subscription->handler_owner);
    subscription->max_concurrency = Max(pg::SpiInt4(row, 8), 1);
    subscription->max_attempts = Max(pg::SpiInt4(row, 9), 1);
    subscription->backoff.first_delay = IntervalAt(row, 10);
    subscription->backoff.factor = pg::SpiFloat8(row, 11);
    subscription->backoff.longest_delay = IntervalAt(row, 12);
    subscription->timeout = (IntervalAt(row, 13) + 999) / 1000;  // never down to 0, "none"
    subscription->batch = pg::SpiBool(row, 14);
    const int isolation = IsolationFromName(pg::SpiText(row, 23));
    subscription->isolation = isolation < 0 ? XACT_READ_COMMITTED : isolation;
    subscription->state = StateFromName(pg::SpiText(row, 15));
    subscription->reason = CopyText(row, 16, context);
    subscription->inert = !BelongsHere(pg::SpiText(row, 17), pg::SpiInt8(row, 18));
}

Subscription *ReadOne(uint64 rows, MemoryContext context) {
    if (rows == 0) return nullptr;
    Subscription *subscription = static_cast<Subscription *>(MemoryContextAllocZero(context, sizeof(Subscription)));
    ReadRow(0, context, subscription);
    return subscription;
}

}  // namespace

Subscription *LoadSubscription(int32 id, MemoryContext context) {
    return pg::AsOwner([&] {
        uint64 rows = pg::SpiRunSaved(select_by_id, std::array{pg::Int4(id)});
        Subscription *subscription = ReadOne(rows, context);
        return subscription;
    });
}

Subscription *LoadSubscriptionByName(const char *name, MemoryContext context) {
    return pg::AsOwner([&] {
        uint64 rows = pg::SpiRunSaved(select_by_name, std::array{pg::Text(name)});
        Subscription *subscription = ReadOne(rows, context);
        return subscription;
    });
}

Subscription *LoadSubscriptions(MemoryContext context, int *count) {
    return pg::AsOwner([&] {
        uint64 rows = pg::SpiRunSaved(select_all, std::array<pg::Param, 0>{});
        Subscription *subscriptions =
            static_cast<Subscription *>(MemoryContextAllocZero(context, sizeof(Subscription) * Max(rows, 1)));
        for (uint64 row = 0; row < rows; row++) ReadRow(row, context, &subscriptions[row]);
        *count = static_cast<int>(rows);
        return subscriptions;
    });
}

Attempted HoldSubscription(const Subscription &subscription, const char *reason) {
    const int32 id = subscription.id;
    Attempted result = Attempted::kNotThere;
    pg::AsOwner([&] {
        if (pg::SpiRunSaved(update_held, std::array{pg::Int4(id), pg::Text(reason)}) > 0)
            result = Attempted::kDone;
        else if (pg::SpiRunSaved(select_state, std::array{pg::Int4(id)}) > 0 &&
                 StateFromName(pg::SpiText(0, 1)) == SubscriptionState::kActive)
            result = Attempted::kLocked;
        if (result == Attempted::kDone) pg::InvalidateCatalogCaches();
    });
    if (result == Attempted::kDone)
        ereport(LOG, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                      errmsg("pg_herald holds subscription \"%s\" of channel \"%s\": %s", subscription.name,
                             subscription.channel, reason),
                      errhint("Mend what is wrong, then call herald.resume().")));
    // Also where another one has held it: whoever asks has not heard of it yet.
    RaiseFlagAtCommit(kFlagReload);
    return result;
}

Attempted KeepSubscription(int32 id) {
    return pg::AsOwner([&] {
        Attempted result = Attempted::kNotThere;
        if (pg::SpiRunSaved(lock_row, std::array{pg::Int4(id)}) > 0)
            result = Attempted::kDone;
        else if (pg::SpiRunSaved(select_state, std::array{pg::Int4(id)}) > 0)
            result = Attempted::kLocked;
        return result;
    });
}

const char *NameOfState(SubscriptionState state) {
    switch (state) {
        case SubscriptionState::kActive:
            return "active";
        case SubscriptionState::kPaused:
            return "paused";
        case SubscriptionState::kHeld:
            return "held";
    }
    return "unknown";
}

bool OwnsSubscription(const Subscription &subscription) {
    return pg::HasRightsOf(GetUserId(), subscription.owner_role);
}

Subscription *FindOwnedSubscription(const char *name) {
    Subscription *subscription = LoadSubscriptionByName(name, CurrentMemoryContext);
    if (subscription == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("subscription \"%s\" does not exist", name),
                        errhint("herald.subscriptions lists the subscriptions; names are "
                                "case-sensitive.")));
    if (!OwnsSubscription(*subscription))
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for subscription \"%s\"", name),
                 errhint("Only its owner \"%s\" may do this.", subscription->owner)));
    return subscription;
}

}  // namespace herald
