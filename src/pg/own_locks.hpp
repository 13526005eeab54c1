// What locks this process holds.

#pragma once

namespace herald::pg {

// An advisory lock, of the session or of the transaction.
bool HoldsAdvisoryLock();

}  // namespace herald::pg
