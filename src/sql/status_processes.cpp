// The rows of herald.status() about processes, the outbox and the log.

#include "pg/pg.hpp"

#include "outbox/outbox.hpp"
#include "publish/pointer_store.hpp"
#include "settings.hpp"
#include "sql/status_rows.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "pgstat.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/wait_event.h"
}

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

// How long a turn may take, and how late the next one may be.
constexpr TimestampTz kLongTurn = 10 * USECS_PER_SEC;

// What a process waits for, as far as it can be told.
char *WaitOf(uint32 pid) {
    PGPROC *process = BackendPidGetProc(static_cast<int>(pid));
    const uint32 event = process == nullptr ? 0 : process->wait_event_info;
    if (event == 0) return pstrdup("waits for nothing");
    char *wait = psprintf("waits for %s %s", pgstat_get_wait_event_type(event), pgstat_get_wait_event(event));
    ArrayType *blockers =
        DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(static_cast<int>(pid))));
    if (ArrayGetNItems(ARR_NDIM(blockers), ARR_DIMS(blockers)) > 0)
        wait = psprintf("%s, held by pid %d", wait, *reinterpret_cast<int32 *>(ARR_DATA_PTR(blockers)));
    return wait;
}

// What is wrong with the turns of a running process; NULL: nothing.
char *TurnProblem(uint32 pid, const Turns &turns) {
    const TimestampTz now = GetCurrentTimestamp();
    if (turns.busy_since != 0 && now - turns.busy_since > kLongTurn)
        return psprintf("in one turn for %lld s, %s", static_cast<long long>((now - turns.busy_since) / USECS_PER_SEC),
                        WaitOf(pid));
    if (turns.busy_since == 0 && turns.turned_at != 0 &&
        now - turns.turned_at > 2 * settings::sweep_interval * USECS_PER_SEC + kLongTurn)
        return psprintf("no turn for %lld s, %s", static_cast<long long>((now - turns.turned_at) / USECS_PER_SEC),
                        WaitOf(pid));
    return nullptr;
}

const char *NameOfStep(AnnouncerStep step) {
    switch (step) {
        case AnnouncerStep::kReload:
            return "read channels and subscriptions";
        case AnnouncerStep::kStore:
            return "store notifications";
        case AnnouncerStep::kAnnounce:
            return "announce messages";
        case AnnouncerStep::kPurge:
            return "purge what is too old";
        case AnnouncerStep::kRotate:
            return "rotate the log";
    }
    return "go on";
}

// What fails in the turns of the announcer; NULL: nothing.
char *StepProblem(DatabaseShared *database) {
    const TimestampTz since = static_cast<TimestampTz>(pg_atomic_read_u64(&database->announcer.failing_since));
    if (since == 0) return nullptr;
    const int code = static_cast<int>(pg_atomic_read_u32(&database->announcer.failing_code));
    return psprintf("cannot %s since %s%s",
                    NameOfStep(static_cast<AnnouncerStep>(pg_atomic_read_u32(&database->announcer.failing_step))),
                    timestamptz_to_str(since), code == 0 ? "" : psprintf(" (SQLSTATE %s)", unpack_sql_state(code)));
}

void ReportProcess(FunctionCallInfo fcinfo, const char *name, uint32 pid, const char *problem, const char *where) {
    const char *hint = pid == 0 ? where
                                : "End the transaction that it waits for, or remove what the server log names; it "
                                  "goes on by itself.";
    char *value = pid == 0 ? pstrdup("not running") : psprintf("pid %u", pid);
    if (pid != 0 && problem != nullptr) value = psprintf("%s, %s", value, problem);
    Report(fcinfo, name, pid != 0 && problem == nullptr, value, hint);
}

void ReportConsumer(FunctionCallInfo fcinfo, const char *name, DatabaseShared *database, Consumer consumer) {
    const int place = static_cast<int>(consumer);
    const uint32 pid = database == nullptr ? 0 : pg_atomic_read_u32(&database->processes.consumers[place].pid);
    if (pid != 0) {
        const char *problem = TurnProblem(
            pid, {static_cast<TimestampTz>(pg_atomic_read_u64(&database->processes.consumers[place].busy_since)),
                  static_cast<TimestampTz>(pg_atomic_read_u64(&database->processes.consumers[place].turned_at))});
        if (problem == nullptr && consumer == Consumer::kAnnouncer) problem = StepProblem(database);
        ReportProcess(fcinfo, name, pid, problem, nullptr);
        return;
    }
    const char *value = "not running";
    const char *hint =
        "It runs if the checks above are ok; else look at the server log, and for a transaction that "
        "renames the database or has prepared to.";
    bool ok = false;
    if (database != nullptr && settings::enabled && LauncherPid() != 0 &&
        pg_atomic_read_u32(&database->extension.presence) == static_cast<uint32>(Presence::kPresent)) {
        if (ConsumersNeeded(database) <= (consumer == Consumer::kDispatcher ? 1 : 0)) {
            ok = true;
            value = consumer == Consumer::kDispatcher ? "not needed: nobody subscribes"
                                                      : "not needed: nothing is published or heard";
        } else if (pg_atomic_read_u32(&database->processes.admitted) == 0 && ReadPlaces().waiting > 0) {
            value = "waits for a place";
            hint = "See the row places.";
        }
    }
    Report(fcinfo, name, ok, value, hint);
}

void ReportRecording(FunctionCallInfo fcinfo, DatabaseShared *database) {
    const TimestampTz since =
        database == nullptr ? 0 : static_cast<TimestampTz>(pg_atomic_read_u64(&database->dispatcher.unrecorded_since));
    Report(
        fcinfo, "recording", since == 0,
        since == 0
            ? "yes"
            : psprintf("not since %s (SQLSTATE %s)", timestamptz_to_str(since),
                       unpack_sql_state(static_cast<int>(pg_atomic_read_u32(&database->dispatcher.unrecorded_code)))),
        "What becomes of tasks cannot be written, so that only one is tried from time to time. The server log "
        "tells why: a full disk, too little memory.");
}

// Of max_worker_processes, for all databases of the server.
bool ReportPlaces(FunctionCallInfo fcinfo) {
    const PlaceGauges places = ReadPlaces();
    const bool ok = static_cast<int>(places.needed) <= max_worker_processes;
    Report(fcinfo, "places", ok,
           places.needed == 0 ? psprintf("max_worker_processes is %d", max_worker_processes)
                              : psprintf("%u of max_worker_processes = %d needed, for %u databases", places.needed,
                                         max_worker_processes, places.databases),
           psprintf("Raise max_worker_processes to at least %u and restart the server: until then databases take "
                    "turns.",
                    places.needed),
           {static_cast<double>(places.needed), "processes"});
    return ok;
}

void ReportLog(FunctionCallInfo fcinfo, DatabaseShared *database) {
    const uint64 megabyte = 1024 * 1024;
    const uint64 bytes = database == nullptr ? 0 : pg_atomic_read_u64(&database->log.bytes);
    const TimestampTz held =
        database == nullptr ? 0 : static_cast<TimestampTz>(pg_atomic_read_u64(&database->log.held_since));
    const uint64 limit = static_cast<uint64>(settings::max_log_size) * megabyte;
    const uint64 parked = database == nullptr ? 0 : pg_atomic_read_u64(&database->log.parked_bytes);
    char *value = psprintf(UINT64_FORMAT " MB", bytes / megabyte);
    if (parked >= megabyte) value = psprintf("%s, " UINT64_FORMAT " MB of it parked", value, parked / megabyte);
    if (held != 0) value = psprintf("%s, a segment cannot be emptied since %s", value, timestamptz_to_str(held));
    const bool late = held != 0 && GetCurrentTimestamp() - held > settings::rotation_period * USECS_PER_SEC;
    Report(fcinfo, "log", !late && (limit == 0 || bytes < limit / 2), value,
           late ? "A transaction has locked it: pg_dump, a prepared transaction, a task that runs for long; see "
                  "pg_locks."
                : "Raise herald.max_log_size: what is published when it is reached is refused.",
           {static_cast<double>(bytes), "bytes"});
}

}  // namespace

void ReportProcesses(FunctionCallInfo fcinfo) {
    DatabaseShared *database = FindDatabase(MyDatabaseId);
    const int launcher = LauncherPid();
    ReportProcess(fcinfo, "launcher", static_cast<uint32>(launcher),
                  launcher == 0 ? nullptr : TurnProblem(static_cast<uint32>(launcher), LauncherTurns()),
                  "It runs on a primary server; else look at the server log.");
    const bool enough = ReportPlaces(fcinfo);
    ReportConsumer(fcinfo, "dispatcher", database, Consumer::kDispatcher);
    ReportConsumer(fcinfo, "announcer", database, Consumer::kAnnouncer);

    const uint32 starved = database == nullptr ? 0 : pg_atomic_read_u32(&database->dispatcher.starved);
    const StartProblem problem =
        database == nullptr ? StartProblem::kNone
                            : static_cast<StartProblem>(pg_atomic_read_u32(&database->dispatcher.start_problem));
    const char *hint = "Raise herald.max_workers where this lasts.";
    if (problem == StartProblem::kNoWorkerProcess) hint = "See the row worker_start.";
    if (!enough) hint = "See the row places.";
    Report(fcinfo, "workers", starved == 0,
           psprintf("%d of %d in use, %u roles have tasks and no worker", WorkerSlotsInUse(), settings::max_workers,
                    starved),
           hint, {static_cast<double>(WorkerSlotsInUse()), "workers"});
    Report(fcinfo, "worker_start", problem == StartProblem::kNone,
           psprintf("%s (max_worker_processes is %d)", NameOfProblem(problem), max_worker_processes),
           HintForProblem(problem));
    ReportRecording(fcinfo, database);
    const OutboxGauges outbox = ReadOutboxGauges();
    Report(fcinfo, "outbox", outbox.usage < 0.8,
           psprintf("%d %% in use, no room " UINT64_FORMAT " times", static_cast<int>(outbox.usage * 100),
                    outbox.refusals),
           "Raise herald.outbox_size, unless a consumer that is not running is the reason.", {outbox.usage, "ratio"});
    ReportLog(fcinfo, database);
    const int kept = database == nullptr ? 0 : PointerSpaceUsage(database);
    Report(fcinfo, "pointer_space", kept < 90, psprintf("%d %% used by the busiest role", kept),
           "Large payloads of channels that are not durable will not be kept: raise herald.pointer_space, "
           "lower herald.pointer_retention, or make the channel durable.",
           {kept / 100.0, "ratio"});
}

}  // namespace herald
