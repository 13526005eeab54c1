// A durable message as it is stored, in the log or in the parked table.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

struct StoredMessage {
    int64 id;
    int32 channel_id;
    TimestampTz published_at;
    text *published_by;  // NULL: unknown
    text *key;           // NULL: none
    Jsonb *headers;      // NULL: none
    Jsonb *payload;
    int32 schema_version;  // of the channel's schema that the payload was checked against; 0: none
};

}  // namespace herald
