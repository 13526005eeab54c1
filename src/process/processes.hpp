// The background processes of the extension: their entry points and how they are registered.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "postmaster/bgworker.h"

PGDLLEXPORT void herald_launcher_main(Datum argument);
PGDLLEXPORT void herald_dispatcher_main(Datum argument);
PGDLLEXPORT void herald_announcer_main(Datum argument);
PGDLLEXPORT void herald_worker_main(Datum argument);
}

namespace herald {

// The launcher, from _PG_init; it restarts one second after a failure.
void RegisterLauncher();

// Dynamic processes that are not restarted by the postmaster: whoever starts them looks after them and is
// told by SIGUSR1 about their start and end. NULL where max_worker_processes are in use.
BackgroundWorkerHandle *StartDispatcher(Oid database);
BackgroundWorkerHandle *StartAnnouncer(Oid database);
BackgroundWorkerHandle *StartWorker(int slot, uint64 generation);

}  // namespace herald
