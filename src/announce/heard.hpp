// Storing the NOTIFYs of other clients as messages.

#pragma once

namespace herald {

// Receives what was notified and writes it to the log. False where it could not be written now: it is kept
// in memory, to be tried again.
bool StoreHeard();

}  // namespace herald
