// Storing the NOTIFYs of other clients as messages.

#pragma once

namespace herald {

// Receives what was notified and writes it to the log, some thousands at once; where there are more, the latch of the
// process is set. The SQLSTATE for which it could not be written now, reported at `level` (it is kept, in memory or in
// NOTIFY's queue, to be tried again), or 0.
int StoreHeard(int level);

}  // namespace herald
