// Turns a JSON Schema into a tree that is quick to check payloads against.

#pragma once

#include "pg/pg.hpp"
#include "schema/schema_tree.hpp"

namespace herald {

// Compiles into a new context below CurrentMemoryContext. What is no JSON Schema is an ERROR 22023 whose DETAIL
// names the place; what can't be had here (documents elsewhere, other drafts, some patterns) is 0A000. `what` is
// the subject of the message: "schema", or "schema for channel ...".
CompiledSchema *CompileSchema(Jsonb *schema, bool check_formats, const char *what);

}  // namespace herald
