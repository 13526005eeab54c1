// See progress.hpp.
//
// A pause that waits can't wait for its own commit, so it stops the dispatcher by a counter in shared
// memory, which is lowered when the transaction ends. wait_idle asks the dispatcher, which knows; only
// without one it looks at the tables.

#include "pg/pg.hpp"

#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/spi.hpp"
#include "pg/subtransaction.hpp"
#include "pg/transaction_list.hpp"
#include "stats/subscription_counters.hpp"
#include "subscription/progress.hpp"
#include "worker/slots.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"
}

namespace herald {

namespace {

constexpr long kStep = 20;  // milliseconds between two looks at shared memory
constexpr int64 kAnswerTime = USECS_PER_SEC / 5;
constexpr long kLongestSleep = 1000;            // milliseconds
constexpr int64 kSlowestCheck = USECS_PER_SEC;  // of the tables

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

void Sleep(int64 microseconds) {
    const long timeout = static_cast<long>(Min(microseconds / 1000 + 1, kLongestSleep));
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

int64 Remaining(TimestampTz started, int64 timeout) { return timeout - (GetCurrentTimestamp() - started); }

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

// Unsettled entries of one log segment. EXCEPT, because the settled tables have neither index nor
// statistics: a join might become a nested loop. "+ 0", so that an index that an administrator has made of the columns
// does not decide what is found.
#define UNSETTLED(segment)                                                          \
    "(SELECT l.id FROM herald_internal.log_" segment                                \
    " AS l WHERE l.channel_id + 0 = $2 EXCEPT "                                     \
    "SELECT pg_catalog.unnest(t.message_ids) FROM herald_internal.settled_" segment \
    " AS t "                                                                        \
    "WHERE t.subscription_id + 0 = $1) AS u"

// Whether anything is left, as everybody sees it now: also in a transaction with an older snapshot.
bool LookForOpenTasks(const Subscription &subscription) {
    Oid types[] = {INT4OID, INT4OID};
    Datum values[] = {Int32GetDatum(subscription.id), Int32GetDatum(subscription.channel_id)};

    bool exists = false;
    bool open = false;
    pg::AsOwner([&] {
        pg::RequireSafePath();
        PushActiveSnapshot(GetLatestSnapshot());
        int code = SPI_execute_with_args(
            "SELECT EXISTS (SELECT FROM herald_internal.subscription_store WHERE id = $1), "
            "EXISTS (SELECT FROM herald_internal.parked_store WHERE subscription_id = $1) "
            "OR EXISTS (SELECT FROM " UNSETTLED("0") ") OR EXISTS (SELECT FROM " UNSETTLED("1") ") "
            "OR EXISTS (SELECT FROM " UNSETTLED("2") ")",
            2, types, values, nullptr, true, 0);
        if (code != SPI_OK_SELECT) elog(ERROR, "could not count tasks: %s", SPI_result_code_string(code));
        exists = pg::SpiBool(0, 1);
        open = pg::SpiBool(0, 2);
        PopActiveSnapshot();
    });

    if (!exists)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("subscription \"%s\" was removed meanwhile", subscription.name)));
    return open;
}

bool HasOpenTasks(const Subscription &subscription) {
    bool open = false;
    pg::ReadAndLetGo([&] { open = LookForOpenTasks(subscription); });
    return open;
}

OpenTasks CountTasks(const Subscription &subscription) {
    return pg::AsOwner([&] {
        OpenTasks open;
        pg::SpiRun("SELECT (SELECT pg_catalog.count(*) FROM " UNSETTLED("0") ")"
                   " + (SELECT pg_catalog.count(*) FROM " UNSETTLED("1") ")"
                   " + (SELECT pg_catalog.count(*) FROM " UNSETTLED("2") "), "
                   "(SELECT pg_catalog.count(*) FROM herald_internal.parked_store WHERE subscription_id = $1), "
                   "(SELECT pg_catalog.count(*) FROM herald_internal.dead_letter_store WHERE subscription_id = $1)",
                   std::array{pg::Int4(subscription.id), pg::Int4(subscription.channel_id)});
        open.pending = pg::SpiInt8(0, 1);
        open.parked = pg::SpiInt8(0, 2);
        open.dead = pg::SpiInt8(0, 3);
        return open;
    });
}

enum class Look { kIdle, kBusy, kUnknown };

// What the dispatcher says of a subscription after a turn that began now or later: then it has taken note of
// everything that is committed now. kUnknown without a dispatcher, or where it has no such entry.
Look AskDispatcher(DatabaseShared *database, int32 subscription_id, TimestampTz until) {
    const uint64 begun = pg_atomic_read_u64(&database->turns_begun);
    while (pg_atomic_read_u64(&database->turns_ended) <= begun) {
        if (!ConsumerRuns(database, Consumer::kDispatcher)) return Look::kUnknown;
        if (GetCurrentTimestamp() >= until) return Look::kBusy;
        WakeConsumer(database, Consumer::kDispatcher);
        Sleep(1000);
    }
    SubscriptionShared *shared = FindSubscriptionShared(MyDatabaseId, subscription_id);
    if (shared == nullptr) return Look::kUnknown;
    bool idle = pg_atomic_read_u32(&shared->pending) == 0 && pg_atomic_read_u32(&shared->running) == 0 &&
                pg_atomic_read_u32(&shared->retrying) == 0;
    return idle ? Look::kIdle : Look::kBusy;
}

}  // namespace

const pg::TransactionPart kPauseRequestsPart = {.before_commit = pg::NoEnd,
                                                .before_prepare = pg::NoEnd,
                                                .committed = LowerAll,
                                                .prepared = LowerAll,
                                                .aborted = LowerAll,
                                                .sub_committed = KeepSub,
                                                .sub_aborted = LowerSub};

OpenTasks CountOpenTasks(const Subscription &subscription) {
    OpenTasks open;
    pg::ReadAndLetGo([&] { open = CountTasks(subscription); });
    return open;
}

int CountRunning(int32 subscription_id) {
    int running = 0;
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        const WorkerSlotShared *slot = WorkerSlot(i);
        const SlotState state = StateOf(slot);
        if ((state == SlotState::kAssigned || state == SlotState::kRunning) && slot->database == MyDatabaseId &&
            TaskOf(slot).subscription == subscription_id)
            running++;
    }
    return running;
}

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
               (pg_atomic_read_u32(&database->flags) & kFlagReload) != 0 && Remaining(started, wait) > 0)
            Sleep(Min(Remaining(started, wait), kStep * 1000));
        // Nobody wakes this process when a task ends.
        while (CountRunning(subscription->id) > 0 && Remaining(started, wait) > 0)
            Sleep(Min(Remaining(started, wait), kStep * 1000));
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

bool WaitIdle(const char *name, int64 timeout) {
    Subscription *subscription = FindOwnedSubscription(name);
    DatabaseShared *database = ThisDatabase();
    const TimestampTz started = GetCurrentTimestamp();
    // The dispatcher gets the time to answer once, however short the timeout is.
    const TimestampTz until = timeout > PG_INT64_MAX - started ? PG_INT64_MAX : started + Max(timeout, kAnswerTime);
    int64 pause = kStep * 1000;

    for (;;) {
        Look look = AskDispatcher(database, subscription->id, until);
        if (look == Look::kIdle) return true;
        if (look == Look::kUnknown) {
            // Nobody keeps count: look at the tables, less and less often.
            if (!HasOpenTasks(*subscription)) return true;
            pause = Min(pause * 2, kSlowestCheck);
        } else {
            pause = kStep * 1000;
        }
        if (Remaining(started, timeout) <= 0) return false;
        Sleep(Min(Remaining(started, timeout), pause));
    }
}

}  // namespace herald
