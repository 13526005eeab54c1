// The announcer of one database: everything that may wait. It turns the announcements of committed
// messages into NOTIFYs, writes the NOTIFYs it hears to the log, holds subscriptions whose role can't
// run, and clears the failure log. It may get stuck behind NOTIFY's commit lock; tasks don't.

#include "announce/announcements.hpp"
#include "announce/heard.hpp"
#include "announce/listener.hpp"
#include "audit/purge.hpp"
#include "audit/segments.hpp"
#include "announce/rotation.hpp"
#include "failure/failure_log.hpp"
#include "pg/guard.hpp"
#include "pg/process.hpp"
#include "pg/spi.hpp"
#include "pointer/pointer_store.hpp"
#include "settings.hpp"
#include "subscription/subscription.hpp"
#include "worker/processes.hpp"
#include "worker/role_check.hpp"
#include "worker/selection.hpp"

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

void ReloadListened() {
    MemoryContext caller = CurrentMemoryContext;
    pg::BeginTransaction();
    pg::SpiBegin();
    uint64 count = pg::SpiRun("SELECT channel FROM herald.channel_store WHERE accept_notify ORDER BY id");
    MemoryContext spi = MemoryContextSwitchTo(caller);
    char **names = static_cast<char **>(palloc(sizeof(char *) * Max(count, 1u)));
    for (uint64 row = 0; row < count; row++) names[row] = pstrdup(pg::SpiText(row, 1));
    MemoryContextSwitchTo(spi);
    pg::SpiEnd();
    pg::CommitTransaction();
    MemoryContextSwitchTo(caller);
    ListenTo(names, static_cast<int>(count));
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
        if (problem == nullptr)
            problem = OwnerProblem(subscription.owner, subscription.role, subscription.run_as,
                                   &sqlstate);
        if (problem == nullptr) continue;
        FailureRecord record = {};
        record.subscription_id = subscription.id;
        record.subscription = subscription.name;
        record.channel = subscription.channel;
        record.run_as = subscription.run_as;
        record.handler = subscription.handler;
        record.task_id = "";
        record.attempt = 0;
        record.sqlstate = sqlstate;
        record.message = problem;
        record.hint = "The subscription is held. Mend what is wrong, then call herald.resume().";
        record.started_at = record.failed_at = GetCurrentTimestamp();
        record.next_attempt_at = DT_NOEND;  // when the subscription is resumed
        // Where a user has it locked it is held at the next turn.
        if (HoldSubscription(subscription.id, problem) == Attempted::kDone) RecordFailure(record);
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
    pg_atomic_write_u32(&database->announces, 0);
    pg_memory_barrier();
    if (pg_atomic_read_u32(&database->leave_requests) == 0) (void)Announce(database);
    pg_atomic_write_u32(&database->left[static_cast<int>(Consumer::kAnnouncer)], 1);
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

// A part of the announcer's turns that may fail for reasons that are not its own, and is then done later: it must not
// keep the other parts from being done. The more often it has failed, the later.
struct Part {
    AnnouncerStep step;
    const char *failure;
    TimestampTz failing_since;  // 0: it works
    TimestampTz next;           // not before
    TimestampTz logged;
    int failures;  // in a row
};

constexpr TimestampTz kFirstDelay = USECS_PER_SEC / 5;
constexpr TimestampTz kLongestDelay = USECS_PER_MINUTE;

Part reload_part = {AnnouncerStep::kReload, "could not read channels and subscriptions", 0, 0, 0, 0};
Part store_part = {AnnouncerStep::kStore, nullptr, 0, 0, 0, 0};
Part announce_part = {AnnouncerStep::kAnnounce, nullptr, 0, 0, 0, 0};
Part purge_part = {AnnouncerStep::kPurge, "could not purge what is too old", 0, 0, 0, 0};
Part pointer_part = {AnnouncerStep::kPurge, "could not purge payloads that are too old", 0, 0, 0, 0};
Part rotate_part = {AnnouncerStep::kRotate, "could not rotate the log", 0, 0, 0, 0};

// Shows in herald.status() what has failed first of all that fails.
void ShowFailing(DatabaseShared *database, const Part *part, int sqlstate) {
    if (part->failing_since == 0) {
        if (pg_atomic_read_u32(&database->failing_step) == static_cast<uint32>(part->step))
            pg_atomic_write_u64(&database->failing_since, 0);
        return;
    }
    const uint64 shown = pg_atomic_read_u64(&database->failing_since);
    if (shown != 0 && pg_atomic_read_u32(&database->failing_step) != static_cast<uint32>(part->step)) return;
    pg_atomic_write_u32(&database->failing_step, static_cast<uint32>(part->step));
    pg_atomic_write_u32(&database->failing_code, static_cast<uint32>(sqlstate));
    pg_atomic_write_u64(&database->failing_since, static_cast<uint64>(part->failing_since));
}

void NoteDone(DatabaseShared *database, Part *part) {
    part->next = 0;
    part->failures = 0;
    if (part->failing_since == 0) return;
    part->failing_since = 0;
    ShowFailing(database, part, 0);
}

// Whether it is worth a line in the log.
bool NoteFailed(DatabaseShared *database, Part *part, int sqlstate) {
    const TimestampTz now = GetCurrentTimestamp();
    part->next = now + Min(kFirstDelay << Min(part->failures, 10), kLongestDelay);
    part->failures++;
    if (part->failing_since == 0) part->failing_since = now;
    ShowFailing(database, part, sqlstate);
    if (part->logged != 0 && now - part->logged < USECS_PER_MINUTE) return false;
    part->logged = now;
    return true;
}

// Locks, and what the server lacks. Another process would meet the same; any other error ends this one.
bool MayPass(int sqlstate) {
    const int category = ERRCODE_TO_CATEGORY(sqlstate);
    return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || category == ERRCODE_INSUFFICIENT_RESOURCES ||
           category == ERRCODE_SYSTEM_ERROR || category == ERRCODE_TRANSACTION_ROLLBACK;
}

// True where the part was done, not where it is not yet to be tried again, or has failed.
template <typename Body>
bool Try(DatabaseShared *database, Part *part, Body &&body) {
    MemoryContext caller = CurrentMemoryContext;
    volatile bool done = false;
    if (part->next > GetCurrentTimestamp()) return false;
    PG_TRY();
    {
        body();
        done = true;
    }
    PG_CATCH();
    {
        if (!MayPass(geterrcode())) PG_RE_THROW();
        const bool log = NoteFailed(database, part, geterrcode());
        pg::AbortAndLog(caller, part->failure, "It is tried again, less and less often.", log ? LOG : DEBUG1);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(caller);
    if (done) NoteDone(database, part);
    return done;
}

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

bool AnnounceAll(DatabaseShared *database) {
    const bool announced = Announce(database);
    if (announced)
        NoteDone(database, &announce_part);
    else
        (void)NoteFailed(database, &announce_part, 0);
    return announced;
}

long MillisecondsUntil(TimestampTz time) {
    return Max(1L, static_cast<long>((time - GetCurrentTimestamp()) / 1000 + 1));
}

[[noreturn]] void RunAnnouncer(DatabaseShared *database) {
    MemoryContext turn =
        AllocSetContextCreate(TopMemoryContext, "pg_herald announcer", ALLOCSET_DEFAULT_SIZES);
    TimestampTz last_purge = 0;
    TimestampTz last_pointer_purge = 0;
    TimestampTz next_rotation = 0;
    bool reload = true;

    // An announcement lost in a crash is lost with the NOTIFY queue anyway; what is stored commits
    // synchronously (see heard.cpp).
    SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE);
    on_shmem_exit(LetGo, PointerGetDatum(database));
    // What failed for a predecessor is tried anew.
    pg_atomic_write_u64(&database->failing_since, 0);
    InitListener();
    pgstat_report_activity(STATE_IDLE, nullptr);

    for (;;) {
        MemoryContextReset(turn);
        MemoryContextSwitchTo(turn);
        if (!DatabaseServed(database)) Leave(database);
        BeginTurn(database);
        reload = (pg_atomic_fetch_and_u32(&database->flags, ~static_cast<uint32>(kFlagReloadAnnouncer)) &
                  kFlagReloadAnnouncer) != 0 || reload;
        if (reload) {
            pg::BeginTransaction();
            bool served = ExtensionServed();
            pg::CommitTransaction();
            if (!served) Leave(database);
            reload = !Try(database, &reload_part, [&] {
                ReloadListened();
                HoldUnrunnable();
                if (next_rotation == 0) ResumeRotation(database);
                pg_atomic_write_u32(&database->announces, 1);
            });
        }
        // First what others wait for.
        const bool announced = AnnounceAll(database);
        const bool stored = Store(database);
        // Several times while the same segment of the audit trail is the oldest: somebody may be reading it.
        if (GetCurrentTimestamp() - last_purge >= Min(kPurgeInterval, AuditSegmentSpan() / 4) &&
            Try(database, &purge_part, [&] {
                PurgeOld();
                ApplyAuditRetention();
            }))
            last_purge = GetCurrentTimestamp();
        // Often enough that little is kept for much longer than it should be.
        if (GetCurrentTimestamp() - last_pointer_purge >=
                Min(settings::pointer_retention * USECS_PER_SEC / 4, kPointerInterval) &&
            Try(database, &pointer_part, [&] { PurgePointers(database); }))
            last_pointer_purge = GetCurrentTimestamp();
        if (GetCurrentTimestamp() >= next_rotation && Announces(database)) {
            if (!Try(database, &rotate_part, [&] { next_rotation = RotateLog(database); })) {
                StopRotation(database);
                next_rotation = rotate_part.next;
            }
        }
        MemoryContextSwitchTo(TopMemoryContext);
        if (MustReceive()) {
            CHECK_FOR_INTERRUPTS();
            continue;
        }
        // What could not be done now is tried again soon: a full NOTIFY queue, a full disk.
        long milliseconds = announced ? settings::sweep_interval * 1000L : 200L;
        milliseconds = Min(milliseconds, MillisecondsUntil(next_rotation));
        for (const Part *part : {&reload_part, &store_part, &purge_part, &pointer_part})
            if (part->failures > 0) milliseconds = Min(milliseconds, MillisecondsUntil(part->next));
        EndTurn(database);
        if (!pg::SleepOnLatch(milliseconds)) {
            ForceReceive();
            reload = reload || (stored && announced);
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
