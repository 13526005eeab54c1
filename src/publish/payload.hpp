// Payloads and headers that arrive as text.

#pragma once

#include "channel/channel.hpp"
#include "pg/pg.hpp"

namespace herald {

// The jsonb value of a text, in the current memory context. What is no JSON, or no JSON that jsonb can
// hold, is refused with the parser's SQLSTATE (22P02 for bad syntax) and an error that names the
// channel, counted as rejected. `element`: its number in a batch, from 1; 0: there is only one.
Datum ParsePayload(const Channel &channel, text *payload, int element);
Datum ParseHeaders(const Channel &channel, text *headers, int element);

}  // namespace herald
