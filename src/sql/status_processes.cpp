// The rows of herald.status() about processes, the outbox and the log.

#include "pg/pg.hpp"

#include "outbox/outbox.hpp"
#include "pointer/pointer_store.hpp"
#include "settings.hpp"
#include "sql/status_rows.hpp"
#include "worker/slots.hpp"

namespace herald {

namespace {

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
    const char *value = "not running";
    const char *hint = "It runs where the checks above are ok; else look at the server log, and for a transaction that "
                       "renames the database or has prepared to.";
    bool ok = false;
    const uint32 pid =
        database == nullptr
            ? 0
            : pg_atomic_read_u32(&database->consumer_pids[static_cast<int>(consumer)]);
    if (pid != 0) {
        ok = true;
        value = psprintf("pid %u", pid);
    } else if (database != nullptr && settings::enabled && LauncherPid() != 0 &&
               pg_atomic_read_u32(&database->presence) == static_cast<uint32>(Presence::kPresent)) {
        if (ConsumersNeeded(database) <= (consumer == Consumer::kDispatcher ? 1 : 0)) {
            ok = true;
            value = consumer == Consumer::kDispatcher ? "not needed: nobody subscribes"
                                                      : "not needed: nothing is published or heard";
        } else if (pg_atomic_read_u32(&database->admitted) == 0 && ReadPlaces().waiting > 0) {
            value = "waits for a place";
            hint = "See the row places.";
        }
    }
    Report(fcinfo, name, ok, value, hint);
}

// Of max_worker_processes, for all databases of the server.
bool ReportPlaces(FunctionCallInfo fcinfo) {
    const PlaceGauges places = ReadPlaces();
    const bool ok = static_cast<int>(places.needed) <= max_worker_processes;
    Report(fcinfo, "places", ok,
           places.needed == 0
               ? psprintf("max_worker_processes is %d", max_worker_processes)
               : psprintf("%u of max_worker_processes = %d needed, for %u databases", places.needed,
                          max_worker_processes, places.databases),
           psprintf("Raise max_worker_processes to at least %u and restart the server: until then databases take "
                    "turns.",
                    places.needed));
    return ok;
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

}  // namespace

void ReportProcesses(FunctionCallInfo fcinfo) {
    DatabaseShared *database = FindDatabase(MyDatabaseId);
    const int launcher = LauncherPid();
    Report(fcinfo, "launcher", launcher != 0,
           launcher == 0 ? "not running" : psprintf("pid %d", launcher),
           "It runs on a primary server; else look at the server log.");
    const bool enough = ReportPlaces(fcinfo);
    ReportConsumer(fcinfo, "dispatcher", database, Consumer::kDispatcher);
    ReportConsumer(fcinfo, "announcer", database, Consumer::kAnnouncer);

    const uint32 starved = database == nullptr ? 0 : pg_atomic_read_u32(&database->starved);
    const StartProblem problem =
        database == nullptr ? StartProblem::kNone
                            : static_cast<StartProblem>(pg_atomic_read_u32(&database->start_problem));
    const char *hint = "Raise herald.max_workers where this lasts.";
    if (problem == StartProblem::kNoWorkerProcess) hint = "See the row worker_start.";
    if (!enough) hint = "See the row places.";
    Report(fcinfo, "workers", starved == 0,
           psprintf("%d of %d in use, %u roles have tasks and no worker", WorkerSlotsInUse(),
                    settings::max_workers, starved),
           hint);
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

}  // namespace herald
