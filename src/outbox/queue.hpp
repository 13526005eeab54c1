// What the parts of the outbox use of each other.

#pragma once

#include "outbox/outbox.hpp"

namespace herald {

// Appends entries to a queue, all or none. False where they don't fit.
bool AppendToOutbox(DatabaseShared *database, Consumer consumer, const OutboxEntry *entries,
                    uint32 count);

// Empties the queues of a database that is gone.
void EmptyOutboxOf(DatabaseShared *database);

}  // namespace herald
