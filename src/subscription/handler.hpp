// Handlers: SQL functions that take one task, as herald.task or as its payload (jsonb). Tables store
// them as text, schema.function(type), because pg_upgrade refuses columns of function oids; the text
// is resolved again whenever a task runs, so a replaced function takes effect at once.

#pragma once

#include "pg/pg.hpp"

namespace herald {

enum class HandlerKind : uint8 {
    kTask = 0,  // takes herald.task
    kPayload,   // takes jsonb
};

// Resolves what a user wrote (app.on_order, with or without its argument type, qualified or found by
// search_path) and returns the text to store, in the current memory context. 42883 where no function
// fits, 42501 where the caller or `role` may not execute it, 42602 for text that is no function name.
// `function` gets the one that was found.
char *CheckHandler(const char *written, Oid role, const char *role_name, Oid *function);

// The function a stored handler names now, or InvalidOid where it is gone (or is no longer a plain
// function). Never raises an error for that. Needs a transaction.
Oid ResolveHandler(const char *stored, HandlerKind *kind);

// The kind a stored handler asks for, from its text alone.
HandlerKind KindOfHandler(const char *stored);

// True where `role` may execute the function: EXECUTE, and USAGE on its schema.
bool MayExecuteHandler(Oid function, Oid role);

// The function's owner; InvalidOid: there is no such function.
Oid OwnerOfFunction(Oid function);

}  // namespace herald
