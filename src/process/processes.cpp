// See processes.hpp.

#include "process/processes.hpp"

namespace herald {

namespace {

BackgroundWorker Describe(const char *kind, const char *function, Datum argument) {
    BackgroundWorker process;
    std::memset(static_cast<void *>(&process), 0, sizeof(process));
    process.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    // On a standby nothing runs; they start at promotion, without a restart.
    process.bgw_start_time = BgWorkerStart_RecoveryFinished;
    process.bgw_restart_time = BGW_NEVER_RESTART;
    process.bgw_main_arg = argument;
    snprintf(process.bgw_library_name, sizeof(process.bgw_library_name), "pg_herald");
    snprintf(process.bgw_function_name, sizeof(process.bgw_function_name), "%s", function);
    snprintf(process.bgw_name, sizeof(process.bgw_name), "pg_herald %s", kind);
    snprintf(process.bgw_type, sizeof(process.bgw_type), "pg_herald %s", kind);
    return process;
}

BackgroundWorkerHandle *Start(BackgroundWorker *process) {
    BackgroundWorkerHandle *handle = nullptr;
    process->bgw_notify_pid = MyProcPid;
    MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
    if (!RegisterDynamicBackgroundWorker(process, &handle)) handle = nullptr;
    MemoryContextSwitchTo(caller);
    return handle;
}

}  // namespace

void RegisterLauncher() {
    BackgroundWorker process = Describe("launcher", "herald_launcher_main", static_cast<Datum>(0));
    process.bgw_restart_time = 1;
    RegisterBackgroundWorker(&process);
}

BackgroundWorkerHandle *StartDispatcher(Oid database) {
    BackgroundWorker process = Describe("dispatcher", "herald_dispatcher_main", ObjectIdGetDatum(database));
    return Start(&process);
}

BackgroundWorkerHandle *StartAnnouncer(Oid database) {
    BackgroundWorker process = Describe("announcer", "herald_announcer_main", ObjectIdGetDatum(database));
    return Start(&process);
}

BackgroundWorkerHandle *StartWorker(int slot, uint64 generation) {
    BackgroundWorker process = Describe("worker", "herald_worker_main", Int32GetDatum(slot));
    std::memcpy(process.bgw_extra, &generation, sizeof(generation));
    return Start(&process);
}

}  // namespace herald
