// Reading messages out of the log by address. The address is a hint: the id found there confirms it.

#pragma once

#include "log/stored_message.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "storage/itemptr.h"
}

namespace herald {

// Copies the message into the current memory context, as the active snapshot sees it. False where it
// is not there: not visible, or the segment was rotated meanwhile.
bool ReadMessage(int segment, ItemPointerData tid, int64 id, StoredMessage *message);

// The same without an address. Messages lie nearly in the order of their ids: it is looked for where it
// should be, and the whole log is read only where it is not there.
bool FindMessage(int64 id, StoredMessage *message);

}  // namespace herald
