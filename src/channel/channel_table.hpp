// Reading channels and grants by index scans, without SPI: behind the cache of channel.cpp.

#pragma once

#include "channel/channel.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

// The declared channel of that name or id as last committed (or changed by this transaction). Fills all
// but the privileges and counters. False: there is none.
bool ReadChannelByName(const char *name, Channel *channel);
bool ReadChannelById(int32 id, Channel *channel);

// The schema of the declared channel, in the current memory context; NULL where it has none.
Jsonb *ReadChannelSchema(int32 id);

}  // namespace herald
