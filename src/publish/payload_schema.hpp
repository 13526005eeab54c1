// Payloads against the JSON Schema of their channel.

#pragma once

#include "channel/channel.hpp"
#include "log/log_writer.hpp"
#include "pg/pg.hpp"

namespace herald {

// For channels whose validation is not off. Where the payload does not fit: 23514 (54001 where that takes too many
// steps to tell), counted as rejected; or a WARNING, counted as warned, where the channel only warns. Neither has
// a value of the payload in it.
void CheckPayloadSchema(const Channel &channel, Datum payload);
// The same for a batch; errors name the element.
void CheckPayloadSchemas(const Channel &channel, const NewMessage *messages, int count);

// False where CheckPayloadSchema would be an ERROR; neither counted nor reported.
bool FitsPayloadSchema(const Channel &channel, Datum payload);

}  // namespace herald
