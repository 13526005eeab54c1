// herald.status(): one row per check, in the order in which to look for the reason why nothing runs.
// Each check says what it found, and where that is not as it should be, what to do.

#include "pg/pg.hpp"

#include "audit/audited_tables.hpp"
#include "channel/channel.hpp"
#include "listen/listeners.hpp"
#include "outbox/outbox.hpp"
#include "pointer/pointer_store.hpp"
#include "pg/extension.hpp"
#include "pg/guard.hpp"
#include "pg/identity.hpp"
#include "pg/spi.hpp"
#include "settings.hpp"
#include "sql/look.hpp"
#include "stats/channel_counters.hpp"
#include "stats/dead_counts.hpp"
#include "stats/subscription_counters.hpp"
#include "worker/crash_file.hpp"
#include "worker/role_check.hpp"
#include "worker/selection.hpp"
#include "worker/slots.hpp"

extern "C" {
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"
}

namespace herald {

namespace {

constexpr int64 kOldAge = USECS_PER_HOUR;  // of a task that should have run
constexpr int64 kRecent = USECS_PER_DAY;   // a publication that may be missed by someone
constexpr int kListedNames = 10;

void Report(FunctionCallInfo fcinfo, const char *name, bool ok, const char *value,
            const char *hint) {
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    const bool has_hint = !ok && hint != nullptr;
    Datum values[4] = {CStringGetTextDatum(name), BoolGetDatum(ok), CStringGetTextDatum(value),
                       has_hint ? CStringGetTextDatum(hint) : static_cast<Datum>(0)};
    bool nulls[4] = {false, false, false, !has_hint};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

const char *OnOff(bool value) { return value ? "on" : "off"; }

char *ExtensionVersion() {
    char *version = nullptr;
    MemoryContext context = CurrentMemoryContext;
    pg::Identity caller = pg::BecomeOwner();
    pg::SpiBegin();
    if (pg::SpiRun("SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pg_herald'") > 0)
        version = MemoryContextStrdup(context, pg::SpiText(0, 1));
    pg::SpiEnd();
    pg::BecomeCaller(caller);
    return version == nullptr ? pstrdup("none") : version;
}

void ReportServer(FunctionCallInfo fcinfo) {
    const bool preloaded = process_shared_preload_libraries_done;
    Report(fcinfo, "preloaded", preloaded, preloaded ? "yes" : "no",
           "Add pg_herald to shared_preload_libraries and restart the server.");
    Report(fcinfo, "enabled", settings::enabled, OnOff(settings::enabled),
           "Turn on herald.enabled and reload the configuration.");
    const bool selected = DatabaseSelected(get_database_name(MyDatabaseId));
    Report(fcinfo, "database", selected, selected ? "selected" : "not selected",
           "Add this database to herald.databases, or empty that setting.");
    const bool standby = RecoveryInProgress();
    Report(fcinfo, "recovery", !standby, standby ? "standby" : "primary",
           "Handlers run on the primary server only.");
    const char *extension = ExtensionVersion();
    const bool same = std::strcmp(extension, PG_HERALD_VERSION) == 0;
    Report(fcinfo, "version", same, psprintf("library %s, extension %s", PG_HERALD_VERSION, extension),
           "Run ALTER EXTENSION pg_herald UPDATE; where the library is the older one, restart the "
           "server.");
}

const char *NameOfProblem(StartProblem problem) {
    switch (problem) {
        case StartProblem::kNone:
            return "none";
        case StartProblem::kNoWorkerProcess:
            return "no free worker process";
        case StartProblem::kNoSlot:
            return "no free worker slot";
        case StartProblem::kFailed:
            return "workers fail to start";
    }
    return "unknown";
}

const char *HintForProblem(StartProblem problem) {
    switch (problem) {
        case StartProblem::kNoWorkerProcess:
            return "Raise max_worker_processes and restart the server.";
        case StartProblem::kNoSlot:
            return "Raise herald.max_workers and reload the configuration.";
        default:
            return "The server log tells why.";
    }
}

void ReportConsumer(FunctionCallInfo fcinfo, const char *name, DatabaseShared *database,
                    Consumer consumer) {
    const uint32 pid =
        database == nullptr
            ? 0
            : pg_atomic_read_u32(&database->consumer_pids[static_cast<int>(consumer)]);
    Report(fcinfo, name, pid != 0, pid == 0 ? "not running" : psprintf("pid %u", pid),
           "It runs where the checks above are ok; else raise max_worker_processes, and look at the "
           "server log.");
}

void ReportLog(FunctionCallInfo fcinfo, DatabaseShared *database) {
    const uint64 megabyte = 1024 * 1024;
    const uint64 bytes = database == nullptr ? 0 : pg_atomic_read_u64(&database->log_bytes);
    const TimestampTz held =
        database == nullptr ? 0 : static_cast<TimestampTz>(pg_atomic_read_u64(&database->log_held_since));
    const uint64 limit = static_cast<uint64>(settings::max_log_size) * megabyte;
    const uint64 parked = database == nullptr ? 0 : pg_atomic_read_u64(&database->parked_bytes);
    char *value = psprintf(UINT64_FORMAT " MB", bytes / megabyte);
    if (parked >= megabyte) value = psprintf("%s, " UINT64_FORMAT " MB of it parked", value, parked / megabyte);
    if (held != 0)
        value = psprintf("%s, a segment cannot be emptied since %s", value, timestamptz_to_str(held));
    const bool late =
        held != 0 && GetCurrentTimestamp() - held > settings::rotation_period * USECS_PER_SEC;
    Report(fcinfo, "log", !late && (limit == 0 || bytes < limit / 2), value,
           late ? "A transaction has locked it: pg_dump, a prepared transaction, a task that runs for long; see "
                  "pg_locks."
                : "Raise herald.max_log_size: what is published when it is reached is refused.");
}


void ReportProcesses(FunctionCallInfo fcinfo) {
    DatabaseShared *database = FindDatabase(MyDatabaseId);
    const int launcher = LauncherPid();
    Report(fcinfo, "launcher", launcher != 0,
           launcher == 0 ? "not running" : psprintf("pid %d", launcher),
           "It runs on a primary server; else look at the server log.");
    ReportConsumer(fcinfo, "dispatcher", database, Consumer::kDispatcher);
    ReportConsumer(fcinfo, "announcer", database, Consumer::kAnnouncer);

    const uint32 starved = database == nullptr ? 0 : pg_atomic_read_u32(&database->starved);
    Report(fcinfo, "workers", starved == 0,
           psprintf("%d of %d in use, %u tasks find none", WorkerSlotsInUse(), settings::max_workers,
                    starved),
           "Raise herald.max_workers where this lasts.");
    const StartProblem problem =
        database == nullptr ? StartProblem::kNone
                            : static_cast<StartProblem>(pg_atomic_read_u32(&database->start_problem));
    Report(fcinfo, "worker_start", problem == StartProblem::kNone,
           psprintf("%s (max_worker_processes is %d)", NameOfProblem(problem), max_worker_processes),
           HintForProblem(problem));
    const OutboxGauges outbox = ReadOutboxGauges();
    Report(fcinfo, "outbox", outbox.usage < 0.8,
           psprintf("%d %% in use, no room " UINT64_FORMAT " times",
                    static_cast<int>(outbox.usage * 100), outbox.refusals),
           "Raise herald.outbox_size, unless a consumer that is not running is the reason.");
    ReportLog(fcinfo, database);
    const int kept = database == nullptr ? 0 : PointerSpaceUsage(database);
    Report(fcinfo, "pointer_space", kept < 90,
           psprintf("%d %% used by the busiest role", kept),
           "Large payloads of channels that are not durable will not be kept: raise herald.pointer_space, "
           "lower herald.pointer_retention, or make the channel durable.");
}

// A list of subscriptions or channels that share a fault.
struct Listed {
    StringInfoData text;
    int count;
};

void InitListed(Listed *listed) {
    initStringInfo(&listed->text);
    listed->count = 0;
}

void AddListed(Listed *listed, const char *name, const char *detail) {
    if (listed->count++ > 0) appendStringInfoString(&listed->text, "; ");
    appendStringInfo(&listed->text, "\"%s\"", name);
    if (detail != nullptr) appendStringInfo(&listed->text, ": %s", detail);
}

void ReportListed(FunctionCallInfo fcinfo, const char *name, const Listed &listed,
                  const char *hint) {
    Report(fcinfo, name, listed.count == 0, listed.count == 0 ? "none" : listed.text.data, hint);
}

const char *HandlerFault(const Subscription &subscription) {
    Oid function = ResolveHandler(subscription.handler, nullptr);
    if (!OidIsValid(function)) return psprintf("%s does not exist", subscription.handler);
    if (OidIsValid(subscription.role) && !MayExecuteHandler(function, subscription.role))
        return psprintf("role \"%s\" may not execute %s", subscription.run_as,
                        subscription.handler);
    return nullptr;
}

// NULL: its handler has not crashed the server lately.
const char *CrashesOf(const Subscription &subscription) {
    for (int i = 0; i < core::kOffenders; i++) {
        const core::Offender &offender = CrashOffenders()[i];
        if (offender.database == MyDatabaseId && offender.extension == pg::Tables().extension &&
            offender.subscription == subscription.id &&
            GetCurrentTimestamp() - offender.crashed_at < core::kForgiven)
            return psprintf("%d in a row, the last %s", offender.crashes,
                            timestamptz_to_str(offender.crashed_at));
    }
    return nullptr;
}

// Only of subscriptions the caller may see.
void ReportSubscriptions(FunctionCallInfo fcinfo) {
    int count;
    int64 dead = 0;
    TimestampTz oldest = 0;
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
        if (subscription.state == SubscriptionState::kHeld)
            AddListed(&held, subscription.name, subscription.reason);
        int sqlstate;
        const char *fault = RoleProblem(subscription.role, subscription.run_as, &sqlstate);
        if (fault != nullptr) AddListed(&roles, subscription.name, fault);
        fault = HandlerFault(subscription);
        if (fault != nullptr) AddListed(&handlers, subscription.name, fault);
        fault = CrashesOf(subscription);
        if (fault != nullptr) AddListed(&crashes, subscription.name, fault);
        SubscriptionShared *shared = FindSubscriptionShared(MyDatabaseId, subscription.id, false);
        const TimestampTz published =
            shared == nullptr
                ? 0
                : static_cast<TimestampTz>(pg_atomic_read_u64(&shared->oldest_published_at));
        if (published != 0 && (oldest == 0 || published < oldest)) oldest = published;
    }

    ReportListed(fcinfo, "inert_subscriptions", inert,
                 "They were restored from another server or database: call herald.activate() if they "
                 "are to run here.");
    ReportListed(fcinfo, "paused_subscriptions", paused, "Call herald.resume(subscription).");
    ReportListed(fcinfo, "held_subscriptions", held,
                 "Remove the cause and call herald.resume(subscription).");
    ReportListed(fcinfo, "roles", roles,
                 "Repair the role, or choose another one by herald.alter_subscription(run_as => ...).");
    ReportListed(fcinfo, "handlers", handlers,
                 "Create the function, grant EXECUTE on it and USAGE on its schema, or choose another "
                 "one by herald.alter_subscription(handler => ...).");
    ReportListed(fcinfo, "server_crashes", crashes,
                 "Its handlers were running when the server crashed; the failure log and the server log tell "
                 "more. It rests between crashes, up to a minute.");
    Report(fcinfo, "dead_letters", dead == 0, psprintf(INT64_FORMAT, dead),
           "Look at herald.dead_letters, then call herald.replay() or herald.discard_dead_letters().");
    const int64 age = oldest == 0 ? 0 : Max(GetCurrentTimestamp() - oldest, 0);
    Report(fcinfo, "oldest_pending", age < kOldAge,
           oldest == 0 ? "none"
                       : psprintf("%lld s old", static_cast<long long>(age / USECS_PER_SEC)),
           "herald.tasks tells what the oldest tasks wait for.");
}

// An undeclared channel has no subscription. Where nobody LISTENs either, its name may be mistyped, here
// or there.
void ReportUnheard(FunctionCallInfo fcinfo) {
    ChannelCounterSnapshot snapshot;
    Listed unheard;
    int listener_count;
    int more = 0;
    const TimestampTz now = GetCurrentTimestamp();
    const Listener *listeners = ReadListeners(MyDatabaseId, &listener_count);

    InitListed(&unheard);
    for (int number = 0; number < ChannelCounterCapacity(); number++) {
        if (!ReadChannelCounters(number, &snapshot) || snapshot.database != MyDatabaseId) continue;
        if (snapshot.last_published_at < now - kRecent) continue;
        if (CountListeners(listeners, listener_count, snapshot.channel) > 0) continue;
        if (LookUpChannel(snapshot.channel).declared) continue;
        if (unheard.count < kListedNames)
            AddListed(&unheard, snapshot.channel, nullptr);
        else
            more++;
    }
    if (more > 0) appendStringInfo(&unheard.text, "; and %d more", more);
    ReportListed(fcinfo, "unheard_channels", unheard,
                 "Published to within a day, declared by nobody, and no session LISTENs now: correct the "
                 "name, or declare the channel by herald.create_channel().");
}

void ReportListeners(FunctionCallInfo fcinfo) {
    const ListenerUsage usage = ReadListenerUsage();
    Report(fcinfo, "listeners", usage.unrecorded == 0,
           psprintf("%d of %d places in use, %d more not recorded", usage.used, kListenerPlaces,
                    usage.unrecorded),
           "herald.listeners and the counts of listeners lack those: one role has LISTENed to very many "
           "channels.");
    if (usage.unrecorded == 0)
        ReportUnheard(fcinfo);
    else
        Report(fcinfo, "unheard_channels", true, "unknown", nullptr);
}

// Only of tables the caller may see.
void ReportAudit(FunctionCallInfo fcinfo) {
    Listed broken;
    int count, audited = 0;
    const StoredTarget *targets = ReadStoredTargets(&count);
    InitListed(&broken);
    for (int i = 0; i < count; i++) {
        if (!targets[i].enabled || !MaySeeTarget(targets[i])) continue;
        audited++;
        int partitions;
        const char *problem = FindAuditProblem(targets[i], &partitions);
        if (problem != nullptr)
            AddListed(&broken, psprintf("%s.%s", targets[i].schema_name, targets[i].table_name), problem);
    }
    Report(fcinfo, "audit", broken.count == 0,
           broken.count == 0 ? psprintf("%d tables", audited) : broken.text.data,
           "Changes may be missing in herald.audit_log. Call herald.enable_audit() for the table again.");
}

}  // namespace

}  // namespace herald

HERALD_FUNCTION(status) {
    InitMaterializedSRF(fcinfo, 0);
    herald::ReportServer(fcinfo);
    herald::ReportProcesses(fcinfo);
    herald::ReportSubscriptions(fcinfo);
    herald::ReportListeners(fcinfo);
    herald::ReportAudit(fcinfo);
    return static_cast<Datum>(0);
}
