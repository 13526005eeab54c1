// See control.hpp.
//
// A pause that waits can't wait for its own commit, so it stops the dispatcher by a counter in shared
// memory, which is lowered when the transaction ends.

#include "subscription/control.hpp"

#include "outbox/outbox.hpp"
#include "pg/as_owner.hpp"
#include "pg/extension.hpp"
#include "pg/transaction_list.hpp"
#include "pg/waiting.hpp"
#include "registry/slots.hpp"
#include "stats/subscription_counters.hpp"
#include "subscription/subscription.hpp"

namespace herald {

namespace {

struct Request {
    int32 subscription;
    SubTransactionId subtransaction;
};

// The pause requests this transaction has raised.
pg::TransactionList<Request> raised;

// A subscription's entry may have been given away meanwhile, so it is looked up again.
void Lower(const Request &request) {
    SubscriptionShared *shared = FindSubscriptionShared(MyDatabaseId, request.subscription);
    if (shared != nullptr && pg_atomic_read_u32(&shared->pause_requests) > 0)
        pg_atomic_fetch_sub_u32(&shared->pause_requests, 1);
}

void LowerSub(SubTransactionId own) {
    if (raised.count == 0 || raised.items[raised.count - 1].subtransaction < own) return;
    DatabaseShared *database = FindDatabase(MyDatabaseId);
    // First the request to read the new state, so that there is no moment in between.
    if (database != nullptr) RaiseFlag(database, kFlagReload);
    raised.DropSub(own, Lower);
    if (database != nullptr) WakeConsumer(database, Consumer::kDispatcher);
}

void LowerAll() {
    LowerSub(TopSubTransactionId);
    raised.Forget();
}

void KeepSub(SubTransactionId own, SubTransactionId parent) { raised.KeepSub(own, parent); }

void RaiseRequest(int32 subscription_id) {
    SubscriptionShared *shared = FindSubscriptionShared(MyDatabaseId, subscription_id);
    if (shared == nullptr)
        ereport(ERROR,
                (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("cannot wait for more subscriptions to pause"),
                 errhint("Pause without waiting, and look at herald.workers for what still runs.")));
    (void)raised.Add({subscription_id, GetCurrentSubTransactionId()});
    pg_atomic_fetch_add_u32(&shared->pauses, 1);
    pg_atomic_fetch_add_u32(&shared->pause_requests, 1);
}

}  // namespace

const pg::TransactionPart kPauseRequestsPart = {.before_commit = pg::NoEnd,
                                                .before_prepare = pg::NoEnd,
                                                .committed = LowerAll,
                                                .prepared = LowerAll,
                                                .aborted = LowerAll,
                                                .sub_committed = KeepSub,
                                                .sub_aborted = LowerSub};

bool PauseSubscription(const char *name, int64 wait) {
    Subscription *subscription = FindOwnedSubscription(name);
    DatabaseShared *database = ThisDatabase();

    if (wait >= 0) {
        const TimestampTz started = GetCurrentTimestamp();
        RaiseRequest(subscription->id);
        // The dispatcher clears the flag at the start of a turn. From then on it has seen the request,
        // and what it dealt before stands in the slots.
        RaiseFlag(database, kFlagReload);
        WakeConsumer(database, Consumer::kDispatcher);
        while (ConsumerRuns(database, Consumer::kDispatcher) &&
               (pg_atomic_read_u32(&database->processes.flags) & kFlagReload) != 0 && pg::Remaining(started, wait) > 0)
            pg::SleepForStep(Min(pg::Remaining(started, wait), pg::kWaitStep));
        // Nobody wakes this process when a task ends.
        while (CountRunning(subscription->id) > 0 && pg::Remaining(started, wait) > 0)
            pg::SleepForStep(Min(pg::Remaining(started, wait), pg::kWaitStep));
    }

    // Only now: a running task may want to change the row, and would wait for this transaction.
    pg::AsOwner([&] {
        pg::SpiRun("UPDATE herald_internal.subscription_store SET state = 'paused', reason = NULL WHERE id = $1",
                   std::array{pg::Int4(subscription->id)});
        pg::InvalidateCatalogCaches();
    });
    RaiseFlagAtCommit(kFlagReload);
    return CountRunning(subscription->id) == 0;
}

void ResumeSubscription(const char *name) {
    Subscription *subscription = FindOwnedSubscription(name);
    const char *caller_name = GetUserNameFromId(GetUserId(), true);
    pg::AsOwner([&] {
        pg::SpiRun("UPDATE herald_internal.subscription_store SET state = 'active', reason = NULL WHERE id = $1",
                   std::array{pg::Int4(subscription->id)});
        pg::InvalidateCatalogCaches();
    });
    if (subscription->state == SubscriptionState::kHeld)
        ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION),
                      errmsg("subscription \"%s\" was held, and is resumed by role \"%s\"", subscription->name,
                             caller_name == nullptr ? "?" : caller_name)));
    RaiseFlagAtCommit(kFlagReload);
}

}  // namespace herald
