// Text of type json as jsonb, without ever raising an error for what is in it: the parser of json lets pass what
// jsonb can't hold.

#pragma once

#include "change/json_writer.hpp"
#include "pg/pg.hpp"

namespace herald {

// Appends valid JSON text of at most kMaxJsonText bytes, or the text itself as a string. Temporary memory is of
// the current context.
JEntry AppendJsonText(JsonBuffer *buffer, const char *text, Size length);

// No text up to here has more elements than jsonb can hold, or a jsonb that is too large.
inline constexpr Size kMaxJsonText = 32 * 1024 * 1024;

}  // namespace herald
