// The dispatcher of one database: it knows every waiting task, deals tasks to workers and takes note of
// what became of them. It waits for nothing but its latch and its timer; what may wait (NOTIFY's lock,
// writing to tables) is the announcer's part.
//
// Its memory can be lost at any moment: a successor reads the worker slots, the settled and parked
// tables and the log, and goes on.

#include "dispatch/intake.hpp"
#include "dispatch/pool.hpp"
#include "dispatch/results.hpp"
#include "pg/extension.hpp"
#include "pg/guard.hpp"
#include "pg/process.hpp"
#include "settings.hpp"
#include "subscription/subscription.hpp"
#include "worker/processes.hpp"
#include "worker/selection.hpp"

extern "C" {
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

class Dispatcher {
public:
    explicit Dispatcher(DatabaseShared *database)
        : database_(database),
          results_(database->database),
          pool_(database, &scheduler_, &results_) {}

    [[noreturn]] void Run();

private:
    bool Reload();
    void ReadWhatIsNew();
    void ApplyPauseRequests();
    long SleepTime(TimestampTz now) const;
    [[noreturn]] void Leave();

    DatabaseShared *database_;
    core::Scheduler scheduler_;
    Results results_;
    Pool pool_;
    std::vector<core::SubscriptionConfig> configs_;  // as the tables have them
};

// Reads the subscriptions. True where one is new: what may wait for it must be read, too.
bool Dispatcher::Reload() {
    int count;
    Subscription *subscriptions = LoadSubscriptions(CurrentMemoryContext, &count);
    bool inert = false;

    for (core::SubscriptionId known : scheduler_.Subscriptions()) {
        bool still = false;
        for (int i = 0; i < count; i++) still = still || subscriptions[i].id == known;
        if (!still) results_.Forget(known);
    }
    configs_.clear();
    for (int i = 0; i < count; i++) {
        const Subscription &subscription = subscriptions[i];
        inert = inert || subscription.inert;
        bool runnable = subscription.state == SubscriptionState::kActive && !subscription.inert &&
                        OidIsValid(subscription.role);
        // The announcer gives a vanished role's subscriptions their reason.
        if (!OidIsValid(subscription.role) && subscription.state == SubscriptionState::kActive) {
            RaiseFlag(database_, kFlagReloadAnnouncer);
            WakeConsumer(database_, Consumer::kAnnouncer);
        }
        configs_.push_back({subscription.id, subscription.channel_id, subscription.role,
                            subscription.max_concurrency, runnable});
        results_.SetChannel(subscription.id, subscription.channel);
    }
    pg_atomic_write_u32(&database_->inert, inert ? 1 : 0);
    return !scheduler_.Configure(configs_).empty();
}

void Dispatcher::ReadWhatIsNew() {
    uint32 asked = pg_atomic_fetch_and_u32(&database_->flags, kFlagReloadAnnouncer) &
                   ~static_cast<uint32>(kFlagReloadAnnouncer);
    if (pool_.TakeReloadRequest()) asked |= kFlagReload;
    if (asked == 0 && OutboxLength(database_, Consumer::kDispatcher) == 0) return;

    pg::BeginTransaction();
    if (asked != 0 && !ExtensionServed()) {
        pg::CommitTransaction();
        pg_atomic_write_u32(&database_->presence, static_cast<uint32>(Presence::kAbsent));
        Leave();
    }
    if (asked & kFlagReload) {
        if (Reload()) asked |= kFlagRescan;
        // A snapshot at least as new as the one that saw the subscriptions: what the creator of one
        // settled for it must be seen together with it.
        PopActiveSnapshot();
        PushActiveSnapshot(GetTransactionSnapshot());
    }
    if (asked & kFlagRescan)
        ScanAll(&scheduler_);
    else if (asked & kFlagParked)
        ScanParked(&scheduler_);
    TakeFromOutbox(database_, &scheduler_);
    pg::CommitTransaction();
}

void Dispatcher::ApplyPauseRequests() {
    for (const core::SubscriptionConfig &config : configs_)
        if (config.runnable) scheduler_.SetRunnable(config.id, !results_.PauseRequested(config.id));
}

long Dispatcher::SleepTime(TimestampTz now) const {
    TimestampTz next = pool_.NextTime();
    std::optional<core::Microseconds> due = scheduler_.NextDue(now);
    if (due.has_value() && *due < next) next = *due;
    long sweep = settings::sweep_interval * 1000L;
    if (next == DT_NOEND) return sweep;
    // Rounded up: a timer that fires early would find nothing to do and spin.
    int64 milliseconds = (next - now + 999) / 1000;
    return milliseconds < 1 ? 1 : Min(static_cast<long>(milliseconds), sweep);
}

void Dispatcher::Leave() {
    EvictIdleWorkers(database_->database);
    proc_exit(0);
}

void Dispatcher::Run() {
    // The fence: first the slots, then (in ReadWhatIsNew) the snapshot.
    // A predecessor may have ended in the middle of a turn.
    pg_atomic_write_u64(&database_->turns_ended, pg_atomic_read_u64(&database_->turns_begun));
    pool_.AdoptSlots(ServedExtension());
    RaiseFlag(database_, kFlagReload | kFlagRescan);
    pgstat_report_activity(STATE_IDLE, nullptr);

    for (;;) {
        if (!DatabaseServed(database_)) Leave();
        pg_atomic_fetch_add_u64(&database_->turns_begun, 1);
        ReadWhatIsNew();
        ApplyPauseRequests();
        TimestampTz now = GetCurrentTimestamp();
        pool_.Collect(now);
        pool_.Deal(now);
        results_.ShowGauges(scheduler_);
        pg_atomic_fetch_add_u64(&database_->turns_ended, 1);
        if (!pg::SleepOnLatch(SleepTime(GetCurrentTimestamp()))) {
            // The sweep: nobody woke us, look around.
            TimestampTz after = GetCurrentTimestamp();
            if (after - now >= settings::sweep_interval * USECS_PER_SEC) {
                RaiseFlag(database_, kFlagReload);
                pgstat_report_stat(true);
            }
        }
    }
}

}  // namespace

}  // namespace herald

void herald_dispatcher_main(Datum argument) {
    using namespace herald;
    pg::Guard([&] {
        pg::InitProcess(pg::CancelSignal::kIgnored);
        pg::ConnectToDatabase(DatumGetObjectId(argument), InvalidOid);
        DatabaseShared *database = EnterDatabase(Consumer::kDispatcher);
        // Never destroyed: it lives as long as the process.
        (new Dispatcher(database))->Run();
    });
}
