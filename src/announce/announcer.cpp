// The announcer of one database: everything that may wait. It turns the announcements of committed
// messages into NOTIFYs, writes the NOTIFYs it hears to the log, holds subscriptions whose role can't
// run, and clears the failure log. It may get stuck behind NOTIFY's commit lock; tasks don't.

#include "announce/announcements.hpp"
#include "announce/heard.hpp"
#include "announce/own_listen.hpp"
#include "announce/parts.hpp"
#include "audit/purge.hpp"
#include "audit/segments.hpp"
#include "announce/role_names.hpp"
#include "rotation/rotation.hpp"
#include "failure/failure_log.hpp"
#include "pg/clock.hpp"
#include "pg/guard.hpp"
#include "pg/process.hpp"
#include "pg/spi.hpp"
#include "publish/pointer_store.hpp"
#include "settings.hpp"
#include "subscription/role_check.hpp"
#include "subscription/subscription.hpp"
#include "tables/own_tables.hpp"
#include "tables/replication.hpp"
#include "process/processes.hpp"
#include "process/served_databases.hpp"

extern "C" {
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/guc.h"
}

namespace herald {

namespace {

constexpr TimestampTz kPurgeInterval = USECS_PER_HOUR;
constexpr TimestampTz kPointerInterval = USECS_PER_MINUTE;
constexpr int64 kPurgeBatch = 10000;
constexpr long kMisfitInterval = 1000;  // milliseconds
// How long a process that is not needed stays where its place is wanted.
constexpr TimestampTz kShortWait = USECS_PER_SEC;

void ReloadListened(DatabaseShared *database) {
    MemoryContext caller = CurrentMemoryContext;
    pg::BeginTransaction();
    pg::SpiBegin();
    uint64 count = pg::SpiRun("SELECT channel FROM herald_internal.channel_store WHERE accept_notify ORDER BY id");
    MemoryContext spi = MemoryContextSwitchTo(caller);
    char **names = static_cast<char **>(palloc(sizeof(char *) * Max(count, 1u)));
    for (uint64 row = 0; row < count; row++) names[row] = pstrdup(pg::SpiText(row, 1));
    MemoryContextSwitchTo(spi);
    pg::SpiEnd();
    pg::CommitTransaction();
    MemoryContextSwitchTo(caller);
    ListenTo(names, static_cast<int>(count));
    pg_atomic_write_u32(&database->announcer.heard_channels, static_cast<uint32>(count));
}

void RefreshRoles() {
    pg::BeginTransaction();
    RefreshRoleNames();
    pg::CommitTransaction();
}

// A subscription whose role is gone or can't run workers gets its reason and one row in the failure log.
void HoldUnrunnable() {
    int count;
    pg::BeginTransaction();
    Subscription *subscriptions = LoadSubscriptions(CurrentMemoryContext, &count);
    for (int i = 0; i < count; i++) {
        const Subscription &subscription = subscriptions[i];
        if (subscription.inert || subscription.state != SubscriptionState::kActive) continue;
        int sqlstate = 0;
        const char *problem = RoleProblem(subscription.role, subscription.run_as, &sqlstate);
        if (problem == nullptr) problem = OwnerProblem(subscription, &sqlstate);
        if (problem == nullptr) continue;
        FailureRecord record = {};
        record.subscription_id = subscription.id;
        record.subscription = subscription.name;
        record.channel = subscription.channel;
        record.run_as = subscription.run_as;
        record.role = subscription.role;
        record.handler = subscription.handler;
        record.task_id = "";
        record.attempt = 0;
        record.sqlstate = sqlstate;
        record.message = problem;
        record.hint = "The subscription is held. Mend what is wrong, then call herald.resume().";
        record.started_at = record.failed_at = GetCurrentTimestamp();
        record.next_attempt_at = DT_NOEND;  // when the subscription is resumed
        // If a user has the row locked, the next turn holds the subscription.
        if (HoldSubscription(subscription, problem) == Attempted::kDone) RecordFailure(record);
    }
    pg::CommitTransaction();
}

void PurgeOld() {
    if (settings::failure_retention == 0) return;
    int64 purged;
    do {
        pg::BeginTransaction();
        purged = PurgeFailures(settings::failure_retention * USECS_PER_MINUTE, kPurgeBatch);
        pg::CommitTransaction();
        CHECK_FOR_INTERRUPTS();
    } while (purged == kPurgeBatch);
}

// Announces what was left to this process, unless somebody wants it away at once. What is linked later
// makes the launcher start another one.
[[noreturn]] void Leave(DatabaseShared *database) {
    bool more = true;
    pg_atomic_write_u32(&database->processes.announces, 0);
    pg_memory_barrier();
    while (more && pg_atomic_read_u32(&database->processes.leave_requests) == 0 && Announce(database, &more)) {
    }
    pg_atomic_write_u32(&database->processes.consumers[static_cast<int>(Consumer::kAnnouncer)].left, 1);
    proc_exit(0);
}

// At exit: whoever waits for this process must not wait for the next one.
void LetGo(int, Datum database) {
    auto *shared = reinterpret_cast<DatabaseShared *>(DatumGetPointer(database));
    RemoveFromOutbox(shared, Consumer::kAnnouncer, nullptr, 0);
    StopRotation(shared);
}

void PurgePointers(DatabaseShared *database) {
    pg::BeginTransaction();
    PurgePayloads(database);
    pg::CommitTransaction();
}

Part reload_part = {AnnouncerStep::kReload, "could not read channels and subscriptions", 0, 0, 0, 0};
Part store_part = {AnnouncerStep::kStore, nullptr, 0, 0, 0, 0};
Part announce_part = {AnnouncerStep::kAnnounce, nullptr, 0, 0, 0, 0};
Part purge_part = {AnnouncerStep::kPurge, "could not purge what is too old", 0, 0, 0, 0};
Part pointer_part = {AnnouncerStep::kPurge, "could not purge payloads that are too old", 0, 0, 0, 0};
Part rotate_part = {AnnouncerStep::kRotate, "could not rotate the log", 0, 0, 0, 0};

bool Store(DatabaseShared *database) {
    const TimestampTz now = GetCurrentTimestamp();
    if (store_part.next > now) return false;
    const bool log = store_part.logged == 0 || now - store_part.logged >= USECS_PER_MINUTE;
    const int sqlstate = StoreHeard(log ? LOG : DEBUG1);
    if (sqlstate == 0)
        NoteDone(database, &store_part);
    else
        (void)NoteFailed(database, &store_part, sqlstate);
    return sqlstate == 0;
}

bool AnnounceSome(DatabaseShared *database, bool *more) {
    const bool announced = Announce(database, more);
    if (announced)
        NoteDone(database, &announce_part);
    else
        (void)NoteFailed(database, &announce_part, 0);
    return announced;
}

void MarkTables() {
    pg::BeginTransaction();
    KeepFromDecoding();
    pg::CommitTransaction();
}

bool LooksFit() {
    pg::BeginTransaction();
    const bool fit = TaskTablesFit();
    pg::CommitTransaction();
    return fit;
}

// True where nothing is left that this process would have to do one day: tables to be emptied.
bool KeepsNothing() {
    pg::BeginTransaction();
    pg::SpiBegin();
    // A segment's rows go with its pages; other tables keep some.
    (void)pg::SpiRun(
        "SELECT EXISTS (SELECT FROM herald_internal.parked_store) OR EXISTS (SELECT FROM herald_internal.pointer_store)"
        " OR ($1 AND EXISTS (SELECT FROM herald_internal.failure_store))"
        " OR EXISTS (SELECT FROM pg_catalog.unnest(ARRAY['log_0', 'log_1', 'log_2']) AS t (name)"
        " WHERE pg_catalog.pg_relation_size((('herald_internal.' OPERATOR(pg_catalog.||) name)::pg_catalog.regclass)) OPERATOR(pg_catalog.>) 0)"
        " OR ($2 AND EXISTS (SELECT FROM pg_catalog.generate_series(0, 7) AS t (number)"
        " WHERE pg_catalog.pg_relation_size((('herald_internal.audit_' OPERATOR(pg_catalog.||) number::pg_catalog.text)::pg_catalog.regclass)) OPERATOR(pg_catalog.>) 0))",
        std::array{pg::Bool(settings::failure_retention > 0), pg::Bool(settings::audit_retention > 0)});
    const bool keeps = pg::SpiBool(0, 1);
    pg::SpiEnd();
    pg::CommitTransaction();
    return !keeps;
}

// When a process that was needed last at some time may leave.
TimestampTz LeaveTime(TimestampTz needed_at, bool looks_only) {
    if (looks_only) return needed_at;
    if (ReadPlaces().waiting > 0) return needed_at + kShortWait;
    return needed_at + settings::worker_idle_timeout * USECS_PER_SEC;
}

long MillisecondsUntil(TimestampTz time) {
    return Max(1L, static_cast<long>((time - GetCurrentTimestamp()) / 1000 + 1));
}

[[noreturn]] void RunAnnouncer(DatabaseShared *database) {
    MemoryContext turn = AllocSetContextCreate(TopMemoryContext, "pg_herald announcer", ALLOCSET_DEFAULT_SIZES);
    TimestampTz last_purge = 0;
    TimestampTz last_pointer_purge = 0;
    TimestampTz next_rotation = 0;
    bool looks_only = MayOnlyLook(database, Consumer::kAnnouncer);
    TimestampTz needed_at = GetCurrentTimestamp();
    bool reload = true;
    bool fit = true;

    // An announcement lost in a crash is lost with the NOTIFY queue anyway; what is stored commits
    // synchronously (see heard.cpp).
    SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE);
    on_shmem_exit(LetGo, PointerGetDatum(database));
    // A predecessor's failures say nothing about this process.
    pg_atomic_write_u64(&database->announcer.failing_since, 0);
    InitOwnListen();
    pgstat_report_activity(STATE_IDLE, nullptr);

    for (;;) {
        MemoryContextReset(turn);
        MemoryContextSwitchTo(turn);
        if (!DatabaseServed(database)) Leave(database);
        BeginTurn(database);
        reload = (pg_atomic_fetch_and_u32(&database->processes.flags, ~static_cast<uint32>(kFlagReloadAnnouncer)) &
                  kFlagReloadAnnouncer) != 0 ||
                 reload;
        if (reload) {
            pg::BeginTransaction();
            bool served = ExtensionServed();
            fit = served && TaskTablesFit();
            pg::CommitTransaction();
            if (!served) Leave(database);
            if (fit)
                reload = !Try(database, &reload_part, [&] {
                    ReloadListened(database);
                    RefreshRoles();
                    HoldUnrunnable();
                    if (next_rotation == 0) ResumeRotation(database);
                    if (next_rotation == 0) MarkTables();
                });
            if (!fit || !reload) pg_atomic_write_u32(&database->processes.announces, 1);
        }
        const bool subscribed =
            IsWanted(database, Consumer::kDispatcher) && !MayOnlyLook(database, Consumer::kDispatcher);
        const bool needed = subscribed || ListenedChannels() > 0 || OutboxLength(database, Consumer::kAnnouncer) > 0;
        if (needed) {
            WantConsumer(database, Consumer::kAnnouncer);
            needed_at = GetCurrentTimestamp();
        }
        // First what others wait for.
        bool more;
        const bool announced = AnnounceSome(database, &more);
        // Tables that were changed are left alone, and looked at again soon.
        const bool stored = !fit || Store(database);
        // Several times while the same segment of the audit trail is the oldest: somebody may be reading it.
        if (fit && HasPassed(last_purge, GetCurrentTimestamp(), Min(kPurgeInterval, AuditSegmentSpan() / 4)) &&
            Try(database, &purge_part, [&] {
                MarkTables();
                PurgeOld();
                ApplyAuditRetention();
            }))
            last_purge = GetCurrentTimestamp();
        // Often enough that little is kept for much longer than it should be.
        if (fit &&
            HasPassed(last_pointer_purge, GetCurrentTimestamp(),
                      Min(settings::pointer_retention * USECS_PER_SEC / 4, kPointerInterval)) &&
            Try(database, &pointer_part, [&] { PurgePointers(database); }))
            last_pointer_purge = GetCurrentTimestamp();
        if (fit && Announces(database) &&
            !IsAhead(next_rotation, GetCurrentTimestamp(), settings::sweep_interval * USECS_PER_SEC)) {
            fit = LooksFit();
            if (fit && !Try(database, &rotate_part, [&] { next_rotation = RotateLog(database); })) {
                StopRotation(database);
                next_rotation = rotate_part.next;
            }
        }
        MemoryContextSwitchTo(TopMemoryContext);
        if (more || (stored && MustReceive())) {
            CHECK_FOR_INTERRUPTS();
            continue;
        }
        TimestampTz leaves_at = needed ? DT_NOEND : LeaveTime(needed_at, looks_only);
        if (GetCurrentTimestamp() >= leaves_at) {
            if (fit && KeepsNothing() && GiveUpWork(database, Consumer::kAnnouncer, kFlagReloadAnnouncer, looks_only))
                Leave(database);
            looks_only = false;
            WantConsumer(database, Consumer::kAnnouncer);
            needed_at = GetCurrentTimestamp();
            leaves_at = LeaveTime(needed_at, looks_only);
        }
        // A full NOTIFY queue or a full disk is tried again soon.
        long milliseconds = announced ? settings::sweep_interval * 1000L : 200L;
        milliseconds = Min(milliseconds, fit ? MillisecondsUntil(next_rotation) : kMisfitInterval);
        for (const Part *part : {&reload_part, &store_part, &purge_part, &pointer_part})
            if (part->failures > 0) milliseconds = Min(milliseconds, MillisecondsUntil(part->next));
        milliseconds = Min(milliseconds, MillisecondsUntil(leaves_at));
        if (!SleepAfterTurn(database, milliseconds)) {
            ForceReceive();
            reload = reload || (stored && announced) || !fit;
        }
    }
}

}  // namespace

}  // namespace herald

void herald_announcer_main(Datum argument) {
    using namespace herald;
    pg::Guard([&] {
        // Never allowed: it is for lock_timeout.
        pg::InitProcess(pg::CancelSignal::kWhenAllowed);
        pg::ConnectToDatabase(DatumGetObjectId(argument), InvalidOid);
        RunAnnouncer(EnterDatabase(Consumer::kAnnouncer));
    });
}
