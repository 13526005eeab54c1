// See process.hpp.

#include "pg/process.hpp"

#include "pg/pinned_settings.hpp"

extern "C" {
#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
}

#include <csignal>

namespace herald::pg {

namespace {

// The process that looks for a deadlock is the one whose statement is cancelled. So ours looks first.
constexpr int kDeadlockWait = 10;  // milliseconds

volatile sig_atomic_t cancel_allowed = 0;
volatile sig_atomic_t told_by_postmaster = 0;
// While lock waits are limited.
int session_lock_timeout = 0;
int session_deadlock_timeout = 0;

// The server's handler would cancel whatever it meets. The timer of lock_timeout signals its own process. Who waits for a
// standby in its commit is told to wait no longer; the commit stays one.
void OnCancel(SIGNAL_ARGS) {
    if (!cancel_allowed && !get_timeout_indicator(LOCK_TIMEOUT, false) && MyProc->syncRepState != SYNC_REP_WAITING)
        return;
    InterruptPending = true;
    QueryCancelPending = true;
    SetLatch(MyLatch);
}

// The postmaster ends its processes when the server stops. Anybody else's signal is something to be told of.
void NoteSender(int pid) {
    if (pid == PostmasterPid) told_by_postmaster = 1;
}

#if PG_VERSION_NUM >= 190000
void OnTerminate(SIGNAL_ARGS) {
    NoteSender(static_cast<int>(pg_siginfo->pid));
    die(postgres_signal_arg, pg_siginfo);
}

void HandleTerminate() { pqsignal(SIGTERM, OnTerminate); }
#else
void OnTerminate(int signal, siginfo_t *info, void *) {
    if (info != nullptr) NoteSender(info->si_pid);
    die(signal);
}

void HandleTerminate() {
    struct sigaction action = {};
    action.sa_sigaction = OnTerminate;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART | SA_SIGINFO;
    if (sigaction(SIGTERM, &action, nullptr) != 0) pqsignal(SIGTERM, die);
}
#endif

}  // namespace

void AllowCancel(bool allowed) { cancel_allowed = allowed; }

// Not by way of the configuration, which would take longer than a small handler.
void LimitLockWaits(int milliseconds) {
    session_lock_timeout = LockTimeout;
    LockTimeout = milliseconds;
    session_deadlock_timeout = DeadlockTimeout;
    DeadlockTimeout = kDeadlockWait;
}

void UnlimitLockWaits() {
    LockTimeout = session_lock_timeout;
    DeadlockTimeout = session_deadlock_timeout;
}

void InitProcess(CancelSignal cancel) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    HandleTerminate();
    if (cancel == CancelSignal::kIgnored)
        IgnoreSignal(SIGINT);
    else
        pqsignal(SIGINT, OnCancel);
    BackgroundWorkerUnblockSignals();
}

bool SleepOnLatch(long milliseconds) {
    int events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (milliseconds >= 0 ? WL_TIMEOUT : 0);
    int happened = WaitLatch(MyLatch, events, milliseconds, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    // Idle, there is nothing to interrupt and nothing worth a FATAL in the log; nor, when the server stops, an exit code that
    // the postmaster would tell of.
    if (ProcDiePending) proc_exit(told_by_postmaster ? 0 : 1);
    // A lock that came together with its timeout.
    if (!cancel_allowed) QueryCancelPending = false;
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
    return (happened & WL_LATCH_SET) != 0;
}

void BeginTransaction(int isolation) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    // As SET TRANSACTION does, before the first snapshot.
    if (isolation >= 0) XactIsoLevel = isolation;
    PushActiveSnapshot(GetTransactionSnapshot());
}

void CommitTransaction() {
    if (ActiveSnapshotSet()) PopActiveSnapshot();
    CommitTransactionCommand();
    // Rate-limited; whoever goes to sleep for long calls it with `true` first.
    pgstat_report_stat(false);
}

void AbortAndLog(MemoryContext caller, const char *what, const char *hint, int level) {
    MemoryContextSwitchTo(caller);
    ErrorData *error = CopyErrorData();
    FlushErrorState();
    AbortCurrentTransaction();
    ereport(level, (errcode(error->sqlerrcode), errmsg("%s: %s", what, error->message), errhint("%s", hint)));
    FreeErrorData(error);
}

void ConnectToDatabase(Oid database, Oid role) {
    if (OidIsValid(role)) {
        BackgroundWorkerInitializeConnectionByOid(database, role, kWorkerConnectionFlags);
        SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_OVERRIDE);
        SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_OVERRIDE);
        // A role's own setting of "role" would make the session somebody else.
        SetConfigOption("role", "none", PGC_USERSET, PGC_S_OVERRIDE);
        SetConfigOption("default_transaction_deferrable", "off", PGC_USERSET, PGC_S_OVERRIDE);
    } else {
        ServerSettings *settings = PinSettings();
        BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
        DropDefaults(settings);
    }
    if (OidIsValid(database))
        SetConfigOption("client_encoding", GetDatabaseEncodingName(), PGC_USERSET, PGC_S_OVERRIDE);
}

}  // namespace herald::pg
