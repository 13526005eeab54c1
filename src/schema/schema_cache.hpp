// Compiled schemas, kept per backend by their text: compiling takes as long as many checks. The ones that were
// not used for longest make room.

#pragma once

#include "pg/pg.hpp"
#include "schema/schema_handle.hpp"
#include "schema/schema_tree.hpp"

namespace herald {

// The compiled schema, from the cache or as CompileSchema makes it (and with its errors). Valid until the next
// call. `source` must be detoasted; `handle` may be NULL.
const CompiledSchema *CompiledFor(Jsonb *source, bool check_formats, const char *what, SchemaHandle *handle);

// The same by its handle; NULL: it is not there any more.
const CompiledSchema *CompiledByHandle(const SchemaHandle &handle);

}  // namespace herald
