// Calling a handler: the right one, with the right argument, and without a trace in the next task.

#pragma once

#include "log/stored_message.hpp"
#include "subscription/subscription.hpp"

namespace herald {

// A fault of definition: the handler cannot run, whatever the message. `sqlstate` 0: there is none.
struct DefinitionFault {
    int sqlstate;
    const char *message;  // in the memory context of the check
};

// Checks what may have changed since subscribe: role, handler, rights. Returns the function.
Oid CheckDefinition(const Subscription &subscription, DefinitionFault *fault);

// Runs the handler in a subtransaction of the current transaction, under the subscription's timeout, and
// where it `shares` the transaction, under that of the batch (batch_timer.hpp). Returns NULL if it
// succeeded, or a copy of its error in the current memory context; then the subtransaction has been
// rolled back.
ErrorData *CallHandler(const Subscription &subscription, Oid function, const StoredMessage &message, int32 attempt,
                       bool shares);

}  // namespace herald
