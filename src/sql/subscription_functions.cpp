// herald.subscribe, alter_subscription, unsubscribe, pause, resume and wait_idle.

#include "pg/pg.hpp"

#include "feed/feed_notes.hpp"
#include "outbox/outbox.hpp"
#include "pg/arguments.hpp"
#include "pg/guard.hpp"
#include "pg/interval.hpp"
#include "subscription/control.hpp"
#include "subscription/progress.hpp"
#include "subscription/subscription_admin.hpp"

using namespace herald;

namespace {

// A time to wait, in microseconds.
int64 WaitArgument(const Interval *interval, const char *name) {
    const int64 wait = pg::IntervalMicroseconds(interval);
    if (wait < 0) ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must not be negative", name)));
    return wait;
}

// Arguments 1 to 8: the same in subscribe and alter_subscription.
SubscriptionOptions CommonOptions(FunctionCallInfo fcinfo) {
    SubscriptionOptions options = {};
    options.channel = pg::OptionalText(fcinfo, 1);
    options.handler = pg::OptionalText(fcinfo, 2);
    options.max_concurrency = pg::OptionalInt4(fcinfo, 3);
    options.max_attempts = pg::OptionalInt4(fcinfo, 4);
    options.retry_delay = pg::OptionalInterval(fcinfo, 5);
    options.retry_backoff = pg::OptionalFloat8(fcinfo, 6);
    options.max_retry_delay = pg::OptionalInterval(fcinfo, 7);
    options.timeout = pg::OptionalInterval(fcinfo, 8);
    return options;
}

// Tasks that nobody can see before this transaction commits: no answer would be true.
void RefuseOwnTasks(const Subscription &subscription) {
    bool own = BringsTasks(subscription.channel_id);
    for (const FeedNotes *notes = AllNotes(); notes != nullptr && !own; notes = notes->next)
        own = notes->top != nullptr && std::strcmp(notes->feed->channel, subscription.channel) == 0;
    if (own)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("cannot wait for subscription \"%s\" in the transaction that gives it tasks",
                               subscription.name),
                        errdetail("They begin when this transaction has committed."),
                        errhint("Commit, then call herald.wait_idle().")));
}

}  // namespace

HERALD_FUNCTION(subscribe) {
    static const char *const kNames[] = {
        "subscription",    "channel", "handler",  "max_concurrency", "max_attempts", "retry_delay", "retry_backoff",
        "max_retry_delay", "timeout", "start_at", "run_as",          "batch",        "isolation",   "if_not_exists"};
    constexpr int kHandler = 2;
    constexpr int kRunAs = 10;

    if (PG_ARGISNULL(kHandler))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("subscriptions without a handler are not available in this version"),
                        errhint("Name a function that takes herald.task or jsonb by handler.")));
    for (int i = 0; i < static_cast<int>(lengthof(kNames)); i++)
        if (PG_ARGISNULL(i) && i != kRunAs) pg::ReportNull(kNames[i]);

    SubscriptionOptions options = CommonOptions(fcinfo);
    options.start_at = pg::OptionalText(fcinfo, 9);
    options.run_as = pg::OptionalText(fcinfo, kRunAs);
    options.batch = pg::OptionalBool(fcinfo, 11);
    options.isolation = pg::OptionalText(fcinfo, 12);
    Subscribe(pg::OptionalText(fcinfo, 0), options, PG_GETARG_BOOL(13));
    PG_RETURN_VOID();
}

HERALD_FUNCTION(alter_subscription) {
    SubscriptionOptions options = CommonOptions(fcinfo);
    options.run_as = pg::OptionalText(fcinfo, 9);
    options.batch = pg::OptionalBool(fcinfo, 10);
    options.isolation = pg::OptionalText(fcinfo, 11);
    options.owner = pg::OptionalText(fcinfo, 12);
    AlterSubscription(pg::RequiredText(fcinfo, 0, "subscription"), options);
    PG_RETURN_VOID();
}

HERALD_FUNCTION(unsubscribe) {
    if (PG_ARGISNULL(1)) pg::ReportNull("force");
    Unsubscribe(pg::RequiredText(fcinfo, 0, "subscription"), PG_GETARG_BOOL(1));
    PG_RETURN_VOID();
}

HERALD_FUNCTION(pause) {
    const char *name = pg::RequiredText(fcinfo, 0, "subscription");
    const Interval *wait = pg::OptionalInterval(fcinfo, 1);
    PG_RETURN_BOOL(PauseSubscription(name, wait == nullptr ? -1 : WaitArgument(wait, "wait")));
}

HERALD_FUNCTION(resume) {
    ResumeSubscription(pg::RequiredText(fcinfo, 0, "subscription"));
    PG_RETURN_VOID();
}

HERALD_FUNCTION(wait_idle) {
    const char *name = pg::RequiredText(fcinfo, 0, "subscription");
    const Interval *timeout = pg::OptionalInterval(fcinfo, 1);
    if (timeout == nullptr) pg::ReportNull("timeout");
    RefuseOwnTasks(*FindOwnedSubscription(name));
    PG_RETURN_BOOL(WaitIdle(name, WaitArgument(timeout, "timeout")));
}
