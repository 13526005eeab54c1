// Storing the NOTIFYs of other clients as messages.

#pragma once

namespace herald {

// Receives what was notified and writes it to the log, some thousands at once; where there are more, the latch of the
// process is set. False where it could not be written now: it is kept, in memory or in NOTIFY's queue, to be
// tried again.
bool StoreHeard();

}  // namespace herald
