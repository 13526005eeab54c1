// Statistics of channels and subscriptions survive a restart in order, and only that: a file holds them
// while the server is down.

#pragma once

namespace herald {

// In the shmem_startup_hook, after the tables were set up: reads and removes the file of the last
// shutdown, and has the postmaster write one at the next. A file that can't be used is one line in the
// server's log, never an error.
void KeepStatistics();

}  // namespace herald
