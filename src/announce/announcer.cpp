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
#include "pg/clock.hpp"
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
        if (HoldSubscription(subscription.id, problem)) RecordFailure(record);
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
    InitListener();
    pgstat_report_activity(STATE_IDLE, nullptr);

    for (;;) {
        MemoryContextReset(turn);
        MemoryContextSwitchTo(turn);
        if (!DatabaseServed(database)) Leave(database);
        reload = (pg_atomic_fetch_and_u32(&database->flags, ~static_cast<uint32>(kFlagReloadAnnouncer)) &
                  kFlagReloadAnnouncer) != 0 || reload;
        if (reload) {
            pg::BeginTransaction();
            bool served = ExtensionServed();
            pg::CommitTransaction();
            if (!served) Leave(database);
            ReloadListened();
            HoldUnrunnable();
            reload = false;
            if (next_rotation == 0) ResumeRotation(database);
            pg_atomic_write_u32(&database->announces, 1);
        }
        bool stored = StoreHeard();
        bool announced = Announce(database);
        // Several times while the same segment of the audit trail is the oldest: somebody may be reading it.
        if (HasPassed(last_purge, GetCurrentTimestamp(), Min(kPurgeInterval, AuditSegmentSpan() / 4))) {
            PurgeOld();
            ApplyAuditRetention();
            last_purge = GetCurrentTimestamp();
        }
        // Often enough that little is kept for much longer than it should be.
        if (HasPassed(last_pointer_purge, GetCurrentTimestamp(),
                      Min(settings::pointer_retention * USECS_PER_SEC / 4, kPointerInterval))) {
            PurgePointers(database);
            last_pointer_purge = GetCurrentTimestamp();
        }
        if (!IsAhead(next_rotation, GetCurrentTimestamp(), settings::sweep_interval * USECS_PER_SEC)) next_rotation = RotateLog(database);
        MemoryContextSwitchTo(TopMemoryContext);
        if (MustReceive()) {
            CHECK_FOR_INTERRUPTS();
            continue;
        }
        // What could not be done now is tried again soon: a full NOTIFY queue, a full disk.
        long milliseconds = stored && announced ? settings::sweep_interval * 1000L : 200L;
        milliseconds = Min(milliseconds, MillisecondsUntil(next_rotation));
        if (!pg::SleepOnLatch(milliseconds)) {
            ForceReceive();
            reload = stored && announced;
        }
    }
}

}  // namespace

}  // namespace herald

void herald_announcer_main(Datum argument) {
    using namespace herald;
    pg::Guard([&] {
        pg::InitProcess(pg::CancelSignal::kIgnored);
        pg::ConnectToDatabase(DatumGetObjectId(argument), InvalidOid);
        RunAnnouncer(EnterDatabase(Consumer::kAnnouncer));
    });
}
