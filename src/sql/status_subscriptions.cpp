// The rows of herald.status() about subscriptions and their tasks.

#include "pg/pg.hpp"

#include "registry/database.hpp"
#include "pg/extension.hpp"
#include "sql/look.hpp"
#include "sql/status_rows.hpp"
#include "stats/dead_counts.hpp"
#include "stats/subscription_counters.hpp"
#include "subscription/role_check.hpp"
#include "worker/crash_file.hpp"

namespace herald {

namespace {

constexpr int64 kOldAge = USECS_PER_HOUR;  // of a task that should have run

// NULL: its handler has not crashed the server lately.
const char *CrashesOf(const Subscription &subscription) {
    for (int i = 0; i < core::kOffenders; i++) {
        const core::Offender &offender = CrashOffenders()[i];
        if (offender.database == MyDatabaseId && offender.extension == pg::Tables().extension &&
            offender.subscription == subscription.id && GetCurrentTimestamp() - offender.crashed_at < core::kForgiven)
            return psprintf("%d in a row, the last %s", offender.crashes, timestamptz_to_str(offender.crashed_at));
    }
    return nullptr;
}

}  // namespace

// Only of subscriptions the caller may see.
void ReportSubscriptions(FunctionCallInfo fcinfo) {
    int count;
    int64 dead = 0;
    TimestampTz oldest = 0;
    bool unknown = false;  // nobody has counted what waits
    Listed inert, paused, held, roles, handlers, crashes;
    Subscription *subscriptions = LoadSubscriptions(CurrentMemoryContext, &count);

    InitListed(&inert);
    InitListed(&paused);
    InitListed(&held);
    InitListed(&roles);
    InitListed(&handlers);
    InitListed(&crashes);
    for (int i = 0; i < count; i++) {
        const Subscription &subscription = subscriptions[i];
        if (!MaySeeSubscription(subscription)) continue;
        dead += DeadLettersOf(subscription.id);
        if (subscription.inert) AddListed(&inert, subscription.name, nullptr);
        if (subscription.state == SubscriptionState::kPaused)
            AddListed(&paused, subscription.name, subscription.reason);
        if (subscription.state == SubscriptionState::kHeld) AddListed(&held, subscription.name, subscription.reason);
        int sqlstate;
        const char *fault = RoleProblem(subscription.role, subscription.run_as, &sqlstate);
        if (fault == nullptr) fault = OwnerProblem(subscription, &sqlstate);
        if (fault != nullptr) AddListed(&roles, subscription.name, fault);
        Oid function;
        fault = HandlerProblem(subscription, &function, &sqlstate);
        if (fault != nullptr) AddListed(&handlers, subscription.name, fault);
        fault = CrashesOf(subscription);
        if (fault != nullptr) AddListed(&crashes, subscription.name, fault);
        SubscriptionShared *shared = FindSubscriptionShared(MyDatabaseId, subscription.id);
        unknown = unknown || shared == nullptr;
        const TimestampTz published =
            shared == nullptr ? 0 : static_cast<TimestampTz>(pg_atomic_read_u64(&shared->oldest_published_at));
        if (published != 0 && (oldest == 0 || published < oldest)) oldest = published;
    }

    DatabaseShared *database = FindDatabase(MyDatabaseId);
    const SubscriptionPlaces places = ReadSubscriptionPlaces();
    const uint32 unplaced = database == nullptr ? 0 : pg_atomic_read_u32(&database->dispatcher.unplaced);
    Report(fcinfo, "subscription_places", unplaced == 0,
           psprintf("%d of %d in use, %u subscriptions have none", places.used, places.capacity, unplaced),
           "Those have no statistics. Raise herald.max_subscriptions and restart the server, or unsubscribe what is "
           "no longer needed.",
           {static_cast<double>(places.used), "subscriptions"});
    ReportListed(fcinfo, "inert_subscriptions", inert, "subscriptions",
                 "They were restored from another server or database: call herald.activate() if they "
                 "are to run here.");
    ReportListed(fcinfo, "paused_subscriptions", paused, "subscriptions", "Call herald.resume(subscription).");
    ReportListed(fcinfo, "held_subscriptions", held, "subscriptions",
                 "Remove the cause and call herald.resume(subscription).");
    ReportListed(fcinfo, "roles", roles, "subscriptions",
                 "Repair the role, or choose another one by herald.alter_subscription(run_as => ..., owner => ...).");
    ReportListed(fcinfo, "handlers", handlers, "subscriptions",
                 "Create the function, grant EXECUTE on it and USAGE on its schema, or choose it anew, or another "
                 "one, by herald.alter_subscription(handler => ...).");
    ReportListed(fcinfo, "server_crashes", crashes, "subscriptions",
                 "Its handlers were running when the server crashed; the failure log and the server log tell "
                 "more. It rests between crashes, up to a minute.");
    Report(fcinfo, "dead_letters", dead == 0, psprintf(INT64_FORMAT, dead),
           "Look at herald.dead_letters, then call herald.replay() or herald.discard_dead_letters().",
           {static_cast<double>(dead), "messages"});
    if (!GaugesKnown(MyDatabaseId)) unknown = count > 0;
    const int64 age = oldest == 0 ? 0 : Max(GetCurrentTimestamp() - oldest, 0);
    Report(fcinfo, "oldest_pending", age < kOldAge && !unknown,
           unknown       ? "unknown"
           : oldest == 0 ? "none"
                         : psprintf("%lld s old", static_cast<long long>(age / USECS_PER_SEC)),
           unknown ? "No dispatcher counts what waits; herald.tasks tells."
                   : "herald.tasks tells what the oldest tasks wait for.",
           {static_cast<double>(age) / USECS_PER_SEC, unknown ? nullptr : "seconds"});
}

}  // namespace herald
