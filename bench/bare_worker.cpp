// A background worker that is connected to a database and waits: what such a process takes of memory
// by itself. Preloaded into the server by bench/backlog.

#include <dlfcn.h>

extern "C" {
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
void _PG_init(void);
void bare_worker_main(Datum argument);
#ifdef __GNUC__
#pragma GCC visibility pop
#endif
}

void bare_worker_main(Datum) {
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection("postgres", nullptr, 0);
    while (!ShutdownRequestPending) {
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

void _PG_init(void) {
    // It is in no folder that the server knows.
    Dl_info self;
    if (dladdr(reinterpret_cast<void *>(&bare_worker_main), &self) == 0) return;
    BackgroundWorker worker = {};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = 1;
    strlcpy(worker.bgw_name, "bare worker", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "bare worker", BGW_MAXLEN);
    strlcpy(worker.bgw_library_name, self.dli_fname, sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, "bare_worker_main", BGW_MAXLEN);
    RegisterBackgroundWorker(&worker);
}
