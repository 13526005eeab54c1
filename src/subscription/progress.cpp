// See progress.hpp.
//
// wait_idle asks the dispatcher, which knows; only without one it looks at the tables.

#include "pg/pg.hpp"

#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/spi.hpp"
#include "pg/subtransaction.hpp"
#include "pg/waiting.hpp"
#include "stats/subscription_counters.hpp"
#include "subscription/progress.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"
}

namespace herald {

namespace {

constexpr int64 kAnswerTime = USECS_PER_SEC / 5;
constexpr int64 kSlowestCheck = USECS_PER_SEC;  // of the tables

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
    const uint64 begun = pg_atomic_read_u64(&database->dispatcher.turns_begun);
    while (pg_atomic_read_u64(&database->dispatcher.turns_ended) <= begun) {
        if (!ConsumerRuns(database, Consumer::kDispatcher)) return Look::kUnknown;
        if (GetCurrentTimestamp() >= until) return Look::kBusy;
        WakeConsumer(database, Consumer::kDispatcher);
        pg::SleepForStep(1000);
    }
    SubscriptionShared *shared = FindSubscriptionShared(MyDatabaseId, subscription_id);
    if (shared == nullptr) return Look::kUnknown;
    bool idle = pg_atomic_read_u32(&shared->pending) == 0 && pg_atomic_read_u32(&shared->running) == 0 &&
                pg_atomic_read_u32(&shared->retrying) == 0;
    return idle ? Look::kIdle : Look::kBusy;
}

}  // namespace

OpenTasks CountOpenTasks(const Subscription &subscription) {
    OpenTasks open;
    pg::ReadAndLetGo([&] { open = CountTasks(subscription); });
    return open;
}

bool WaitIdle(const char *name, int64 timeout) {
    Subscription *subscription = FindOwnedSubscription(name);
    DatabaseShared *database = ThisDatabase();
    const TimestampTz started = GetCurrentTimestamp();
    // The dispatcher gets the time to answer once, however short the timeout is.
    const TimestampTz until = timeout > PG_INT64_MAX - started ? PG_INT64_MAX : started + Max(timeout, kAnswerTime);
    int64 pause = pg::kWaitStep;

    for (;;) {
        Look look = AskDispatcher(database, subscription->id, until);
        if (look == Look::kIdle) return true;
        if (look == Look::kUnknown) {
            // Nobody keeps count: look at the tables, less and less often.
            if (!HasOpenTasks(*subscription)) return true;
            pause = Min(pause * 2, kSlowestCheck);
        } else {
            pause = pg::kWaitStep;
        }
        if (pg::Remaining(started, timeout) <= 0) return false;
        pg::SleepForStep(Min(pg::Remaining(started, timeout), pause));
    }
}

}  // namespace herald
