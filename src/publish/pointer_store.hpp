// Payloads of channels that store nothing, too large for a NOTIFY: kept for herald.pointer_retention, so
// that the LISTENers, who got a pointer, can fetch them.
//
// Each role may have herald.pointer_space bytes of them in a database. The use is counted in shared memory
// as payloads are written, and anew from the table whenever the announcer has removed the old ones.

#pragma once

#include "registry/database.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

// Keeps a payload (jsonb) of the current transaction; returns its message id, or 0 where it cannot be
// kept: the role's share is used up, or the transaction is read-only.
int64 KeepPayload(const char *channel, Datum payload, uint32 bytes);

// A payload that is kept, and the name of its channel, in the current memory context; NULL: none.
Jsonb *FindKeptPayload(int64 message_id, char **channel);

// Removes what is older than herald.pointer_retention and counts the rest. In a transaction.
void PurgePayloads(DatabaseShared *database);

// How much of its share the role has in use that uses most, in percent (or two roles that are counted as
// one).
int PointerSpaceUsage(DatabaseShared *database);

}  // namespace herald
