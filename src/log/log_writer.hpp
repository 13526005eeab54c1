// Writing durable messages to the log: straight heap inserts, no SPI, no executor.
//
// Both functions need a transaction that may write, and give the message its id from the sequence.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "storage/itemptr.h"
#include "utils/jsonb.h"
}

namespace herald {

// What a publisher gives. Datums are varlena pointers; 0 where there is none.
struct NewMessage {
    Datum payload;  // jsonb
    Datum key;      // text, or 0
    Datum headers;  // jsonb, or 0
};

// Where a message was written.
struct MessageAddress {
    int64 id;
    uint8 segment;
    ItemPointerData tid;
};

// The segment that new messages go to.
int CurrentSegment();

// Writes one message as published by `published_by` at `published_at`. `schema_version`: of the channel's schema
// that it was checked against; 0: none.
MessageAddress WriteMessage(int32 channel_id, int32 schema_version, TimestampTz published_at, Oid published_by,
                            const NewMessage &message);

// Writes many, in order. Ids grow in that order but other transactions' ids may lie between.
void WriteMessages(int32 channel_id, int32 schema_version, TimestampTz published_at, Oid published_by,
                   const NewMessage *messages, MessageAddress *addresses, int count);

}  // namespace herald
