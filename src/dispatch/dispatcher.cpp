// The dispatcher of one database: it knows every waiting task, deals tasks to workers and takes note of
// what became of them. It waits for nothing but its latch and its timer; what may wait (NOTIFY's lock,
// writing to tables) is the announcer's part.
//
// Its memory can be lost at any moment: a successor reads the worker slots, the settled and parked
// tables and the log, and goes on.

#include "dispatch/intake.hpp"
#include "dispatch/pool.hpp"
#include "dispatch/gauges.hpp"
#include "outbox/prepared.hpp"
#include "pg/clock.hpp"
#include "pg/extension.hpp"
#include "pg/guard.hpp"
#include "pg/process.hpp"
#include "pg/roles.hpp"
#include "settings.hpp"
#include "subscription/subscription.hpp"
#include "tables/own_tables.hpp"
#include "process/processes.hpp"
#include "process/served_databases.hpp"

extern "C" {
#include "commands/dbcommands.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/snapmgr.h"
}

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace herald {

namespace {

// Every so many sweeps the log is read, too.
constexpr int kSweepsPerScan = 20;
// Flags that make the dispatcher read tables.
constexpr uint32 kOwnFlags = kFlagRescan | kFlagReload | kFlagParked;
// The dispatcher starts anew when the ids of messages that it has seen take so many bytes more than twice as many as when
// it began.
constexpr std::size_t kTolerated = 8 * 1024 * 1024;
// So it does when bytes of its heap that are not in use are so many more; but not with a backlog of so many tasks.
constexpr std::size_t kWasted = 2 * 1024 * 1024;
constexpr std::size_t kBacklog = 1000;
// Addresses that are wrong after so short a time are not the work of rotation.
constexpr TimestampTz kShortLife = USECS_PER_SEC / 5;

// Milliseconds between two looks at tables that have been changed.
constexpr long kMisfitInterval = 1000;
// The process was started to see whether anybody subscribes.
bool looks_only = false;
// The name of the database, where the log says that it is served.
char told_name[NAMEDATALEN];

// What an administrator wants to know of this database, once in the life of the process.
void LogService(int subscriptions, bool inert) {
    static bool told_inert = false;
    const char *name = get_database_name(MyDatabaseId);
    if (name == nullptr) return;
    if (subscriptions > 0 && told_name[0] == '\0') {
        pg::CopyString(told_name, name, sizeof(told_name));
        ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION),
                      errmsg_plural("pg_herald serves database \"%s\", which has %d subscription",
                                    "pg_herald serves database \"%s\", which has %d subscriptions", subscriptions, name,
                                    subscriptions)));
    }
    if (inert && !told_inert)
        ereport(
            WARNING,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("subscriptions of database \"%s\" are inert: they were made in another server or database", name),
             errdetail("This is so after a restore, a copy of a database, and pg_upgrade."),
             errhint("If their handlers are to run here, call herald.activate() in the database.")));
    told_inert = told_inert || inert;
}

class Dispatcher {
public:
    explicit Dispatcher(DatabaseShared *database)
        : database_(database), gauges_(database->database), pool_(database, &scheduler_, &gauges_) {}

    // Returns when the addresses of messages that it knows are no longer right: then a new one is to begin
    // with what the slots and the tables say. Ends the process where it is not wanted any more.
    void Run();

private:
    void NameSubscriptions();
    bool Reload();
    void ReadWhatIsNew();
    uint32 TakeFlags(uint32 flags);
    void ShowSubscribed();
    void ApplyPauseRequests(TimestampTz now);
    void Sweep(TimestampTz now);
    bool RemembersTooMuch() const;
    bool HasBacklog() const;
    bool HasNothingToDo(TimestampTz now);
    long SleepTime(TimestampTz dealt) const;
    [[noreturn]] void Leave();

    DatabaseShared *database_;
    core::Scheduler scheduler_;
    DispatchGauges gauges_;
    Pool pool_;
    std::vector<core::SubscriptionConfig> configs_;  // as the tables have them
    TimestampTz next_sweep_ = 0;                     // the first turn begins with one: it reads everything
    int sweeps_ = 0;
    bool knows_all_ = false;                         // the first scan is done
    bool fit_ = true;                                // the tables can be read and written
    TimestampTz needed_at_ = GetCurrentTimestamp();  // when a subscription was seen last
    bool knows_new_ = true;            // nothing was left in the outbox that was there when the turn began
    bool passed_over_ = false;         // nothing was dealt in the last turn, because subscriptions had changed
    std::size_t seen_at_first_ = 0;    // by then, in bytes
    std::size_t wasted_at_first_ = 0;  // what a new beginning could not give back
};

// After a long backlog most of the heap is free, and would stay with the process. Returns what is free but can't be
// given back, between pieces that are in use.
std::size_t GiveMemoryBack() {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
    (void)malloc_trim(0);
    return mallinfo2().fordblks;
#else
    return 0;
#endif
}

// Reads the subscriptions. True where one is new: what may wait for it must be read, too.
bool Dispatcher::Reload() {
    int count;
    elog(DEBUG1, "pg_herald: reading the subscriptions");
    gauges_.NotePauses();
    Subscription *subscriptions = LoadSubscriptions(CurrentMemoryContext, &count);
    bool inert = false;
    std::vector<int32> ids;

    for (core::SubscriptionId known : scheduler_.Subscriptions()) {
        bool still = false;
        for (int i = 0; i < count; i++) still = still || subscriptions[i].id == known;
        if (!still) gauges_.Forget(known);
    }
    configs_.clear();
    for (int i = 0; i < count; i++) {
        const Subscription &subscription = subscriptions[i];
        inert = inert || subscription.inert;
        bool runnable =
            subscription.state == SubscriptionState::kActive && !subscription.inert && OidIsValid(subscription.role);
        // The announcer gives a vanished role's subscriptions their reason.
        if (!OidIsValid(subscription.role) && subscription.state == SubscriptionState::kActive) {
            RaiseFlag(database_, kFlagReloadAnnouncer);
            WakeConsumer(database_, Consumer::kAnnouncer);
        }
        configs_.push_back({subscription.id, subscription.channel_id, subscription.role, subscription.max_concurrency,
                            runnable, subscription.batch && subscription.isolation == XACT_READ_COMMITTED});
        if (!gauges_.SetChannel(subscription.id, subscription.channel, subscription.owner_role))
            RaiseFlag(database_, kFlagReload);
        ids.push_back(subscription.id);
    }
    KeepSubscriptions(database_->database, ids.data(), count);
    // For the next time: its snapshot will show what has been committed by now.
    SettleReservations(database_->database);
    pg_atomic_write_u32(&database_->extension.inert, inert ? 1 : 0);
    LogService(static_cast<int>(configs_.size()), inert);
    ShowSubscribed();
    return !scheduler_.Configure(configs_).empty();
}

void Dispatcher::NameSubscriptions() {
    int count;
    pg::BeginTransaction();
    if (ExtensionServed() && TaskTablesFit()) {
        const Subscription *subscriptions = LoadSubscriptions(CurrentMemoryContext, &count);
        for (int i = 0; i < count; i++)
            (void)gauges_.SetChannel(subscriptions[i].id, subscriptions[i].channel, subscriptions[i].owner_role);
    }
    pg::CommitTransaction();
}

void Dispatcher::ReadWhatIsNew() {
    if (pool_.TakeReloadRequest()) RaiseFlag(database_, kFlagReload);
    knows_new_ = true;
    if ((pg_atomic_read_u32(&database_->processes.flags) & kOwnFlags) == 0 &&
        OutboxLength(database_, Consumer::kDispatcher) == 0)
        return;

    pg::BeginTransaction();
    // One of the tables was changed, or is not known yet.
    if (!pg::TablesKnown()) RaiseFlag(database_, kFlagReload);
    (void)ListPrepared(database_);
    uint32 asked = TakeFlags(kOwnFlags);
    if (asked != 0) {
        uint32 changes = pg_atomic_read_u32(&database_->extension.changes);
        if (!ExtensionServed()) {
            pg::CommitTransaction();
            NoteAbsence(database_, changes);
            Leave();
        }
        fit_ = TaskTablesFit();
        if (!fit_) {
            RaiseFlag(database_, asked | kFlagReload);
            pg::CommitTransaction();
            return;
        }
    }
    if (asked & kFlagReload) {
        bool scan = Reload();
        // A snapshot at least as new as the one that saw the subscriptions: what the creator of one
        // settled for it must be seen together with it.
        PopActiveSnapshot();
        PushActiveSnapshot(GetTransactionSnapshot());
        asked |= TakeFlags(kFlagRescan | kFlagParked);
        if (scan) asked |= kFlagRescan;
    }
    if (!knows_all_) pool_.SetSuspectsAside();
    if (asked & kFlagRescan)
        ScanAll(&scheduler_);
    else if (asked & kFlagParked)
        ScanParked(&scheduler_);
    if ((asked & kFlagRescan) && !knows_all_) {
        pool_.TakeOverSuspects(GetCurrentTimestamp());
        knows_all_ = true;
        seen_at_first_ = scheduler_.SeenBytes();
    }
    // What a session asked for before it published is done before that is taken (a scan that finds older messages
    // of the same key, say): else it stays where it is until the next turn.
    knows_new_ = TakeFromOutbox(database_, ServedExtension(), &scheduler_);
    pg::CommitTransaction();
}

uint32 Dispatcher::TakeFlags(uint32 flags) {
    return pg_atomic_fetch_and_u32(&database_->processes.flags, ~flags) & flags;
}

// Publishers of channels with subscribers wake this process from now on; what was published before is
// found by the scan that follows.
void Dispatcher::ShowSubscribed() {
    uint32 words[kSubscribedBits / 32] = {};
    for (const core::SubscriptionConfig &config : configs_) {
        uint32 bit = static_cast<uint32>(config.channel) % kSubscribedBits;
        words[bit / 32] |= 1u << (bit % 32);
    }
    for (uint32 i = 0; i < lengthof(words); i++) pg_atomic_write_u32(&database_->dispatcher.subscribed[i], words[i]);
    pg_memory_barrier();
}

void Dispatcher::ApplyPauseRequests(TimestampTz now) {
    for (const core::SubscriptionConfig &config : configs_)
        if (config.runnable) {
            scheduler_.SetRunnable(config.id, !gauges_.PauseRequested(config.id) && pool_.MayDeal(config.id, now));
            scheduler_.SetMaxConcurrency(config.id, pool_.OneAtATime(config.id) ? 1 : config.max_concurrency);
        }
}

// Tasks that were due at `dealt` have been dealt or wait for a worker; what fell due since then is for the next turn.
long Dispatcher::SleepTime(TimestampTz dealt) const {
    TimestampTz next = pool_.NextTime();
    std::optional<core::Microseconds> due = scheduler_.NextDue(dealt);
    if (due.has_value() && *due < next) next = *due;
    long sweep = settings::sweep_interval * 1000L;
    if (next_sweep_ < next) next = next_sweep_;
    // Rounded up: a timer that fires early would find nothing to do and spin.
    int64 milliseconds = (next - GetCurrentTimestamp() + 999) / 1000;
    return milliseconds < 1 ? 1 : Min(static_cast<long>(milliseconds), sweep);
}

// The insurance: nobody should have to be found by it.
void Dispatcher::Sweep(TimestampTz now) {
    if (IsAhead(next_sweep_, now, settings::sweep_interval * USECS_PER_SEC)) return;
    RaiseFlag(database_, kFlagReload);
    if (sweeps_++ % kSweepsPerScan == 0) {
        RaiseFlag(database_, kFlagRescan);
        database_->dead_letters.Forget();
    }
    next_sweep_ = now + settings::sweep_interval * USECS_PER_SEC;
    pgstat_report_stat(true);
    const std::size_t wasted = GiveMemoryBack();
    if (!knows_all_)
        wasted_at_first_ = wasted;
    else if (RemembersTooMuch() || (wasted > 2 * wasted_at_first_ + kWasted && !HasBacklog()))
        RaiseFlag(database_, kFlagMoved);
}

// Most of the messages that were seen left the log long ago; a new beginning knows those that are still in it.
bool Dispatcher::RemembersTooMuch() const { return scheduler_.SeenBytes() > 2 * seen_at_first_ + kTolerated; }

bool Dispatcher::HasBacklog() const {
    for (core::SubscriptionId subscription : scheduler_.Subscriptions()) {
        const auto gauges = scheduler_.Gauges(subscription);
        if (gauges && gauges->pending + gauges->retrying > kBacklog) return true;
    }
    return false;
}

// True where nobody subscribes, and it is time to go. From then on the process is no longer wanted.
bool Dispatcher::HasNothingToDo(TimestampTz now) {
    if (!knows_all_) return false;
    if (!configs_.empty()) {
        WantConsumer(database_, Consumer::kDispatcher);
        needed_at_ = now;
        return false;
    }
    const TimestampTz until =
        looks_only || ReadPlaces().waiting > 0 ? now : needed_at_ + settings::worker_idle_timeout * USECS_PER_SEC;
    if (now < until) {
        pool_.NoteTime(until);
        return false;
    }
    // Who wants it raises a flag as well.
    if (!GiveUpWork(database_, Consumer::kDispatcher, kFlagReload, false)) return false;
    WakeConsumer(database_, Consumer::kAnnouncer);  // it may have nothing to do either
    return true;
}

void Dispatcher::Leave() {
    if (told_name[0] != '\0')
        ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION), errmsg("pg_herald leaves database \"%s\"", told_name)));
    EvictIdleWorkers(database_->database);
    pg_atomic_write_u32(&database_->processes.consumers[static_cast<int>(Consumer::kDispatcher)].left, 1);
    proc_exit(0);
}

void Dispatcher::Run() {
    // The fence: first the slots, then (in ReadWhatIsNew) the snapshot.
    pool_.AdoptSlots(ServedExtension());
    // The first reports are counted before the first turn reads anything, and that turn may be left.
    NameSubscriptions();
    pgstat_report_activity(STATE_IDLE, nullptr);

    for (;;) {
        if (!DatabaseServed(database_)) Leave();
        BeginTurn(database_);
        pg_atomic_fetch_add_u64(&database_->dispatcher.turns_begun, 1);
        TimestampTz now = GetCurrentTimestamp();
        Sweep(now);
        // Reports first: a replayed dead letter must not be refused because its last attempt still counts
        // as running. What is read next is newer than any report.
        pool_.Collect(now);
        if (pool_.AddressesAreStale() || TakeFlags(kFlagMoved) != 0) return;
        ReadWhatIsNew();
        if (!fit_) {
            // An administrator mends it without telling anybody.
            (void)pg::SleepOnLatch(kMisfitInterval);
            continue;
        }
        ApplyPauseRequests(now);
        // What a pause has changed is to be read before tasks are dealt, but changes in a row must not keep them from
        // being dealt. A subscription whose pause is known only by its request is not dealt in any case.
        const bool changed = (pg_atomic_read_u32(&database_->processes.flags) & kFlagReload) != 0;
        const TimestampTz stopped = static_cast<TimestampTz>(pg_atomic_read_u64(&database_->log.dealing_stopped));
        if (IsAhead(stopped, now, kLongestStop))
            pool_.NoteTime(stopped);
        else if (!changed || passed_over_)
            pool_.Deal(now);
        passed_over_ = changed && !passed_over_;
        gauges_.ShowGauges(database_, scheduler_);
        if (HasNothingToDo(now)) Leave();
        // Not counted: a turn that was left in its middle has not ended, but is made up for by this one.
        if (knows_new_) pg_atomic_write_u32(&database_->dispatcher.gauges_known, 1);
        if (knows_new_)
            pg_atomic_write_u64(&database_->dispatcher.turns_ended,
                                pg_atomic_read_u64(&database_->dispatcher.turns_begun));
        if ((pg_atomic_read_u32(&database_->processes.flags) & kOwnFlags) != 0) {
            CHECK_FOR_INTERRUPTS();
            continue;
        }
        (void)SleepAfterTurn(database_, SleepTime(now));
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
        looks_only = MayOnlyLook(database, Consumer::kDispatcher);
        for (;;) {
            const TimestampTz began = GetCurrentTimestamp();
            // Not an owner that is destroyed: errors pass it by, and end the process.
            auto *dispatcher = new Dispatcher(database);
            dispatcher->Run();
            delete dispatcher;
            (void)GiveMemoryBack();
            // Whatever makes addresses wrong again and again must not keep a processor busy.
            if (GetCurrentTimestamp() - began < kShortLife) (void)pg::SleepOnLatch(100);
        }
    });
}
