// The schema of a channel, when it is set.

#pragma once

#include "channel/channel.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

// The schema that an argument stands for: the JSON value null stands for none.
Jsonb *GivenSchema(Jsonb *argument);

// Refuses what is no schema (22023), or none that can be used here (0A000), with the path of the fault.
void CheckSchema(const char *channel, Jsonb *schema, bool check_formats);

// 23514 where one of the messages that wait for a subscription, or of the youngest ones of the log, does not
// fit the schema.
void RequireStoredFit(const Channel &channel, Jsonb *schema, bool check_formats);

}  // namespace herald
