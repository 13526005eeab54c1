// Calling a handler: the right one, with the right argument, and without a trace in the next task.

#pragma once

#include "log/stored_message.hpp"
#include "subscription/subscription.hpp"

namespace herald {

// A fault of definition: the handler cannot run, whatever the message. `sqlstate` 0: there is none.
struct DefinitionFault {
    int sqlstate;
    char message[256];
};

// Checks what may have changed since subscribe: role, handler, rights. Returns the function.
Oid CheckDefinition(const Subscription &subscription, DefinitionFault *fault);

// Runs the handler in a subtransaction of the current transaction, under the subscription's timeout.
// Returns NULL if it succeeded, or a copy of its error in the current memory context; then the
// subtransaction has been rolled back.
ErrorData *CallHandler(const Subscription &subscription, Oid function, const StoredMessage &message,
                       int32 attempt);

// Throws away what a handler may leave in the session: cursors, temporary tables, prepared statements,
// sequence values. In a transaction.
void CleanSessionInTransaction();
// Session-level advisory locks. After the commit, so that the effects are visible first.
void CleanSessionAfterTransaction();

}  // namespace herald
