// The rows of herald_internal.parked_store as a worker writes and reads them, one at a time, in the transaction that settles the
// task. It finds a row by the index of the primary key, whatever the planner would think of a table that was small when
// it was asked.

#pragma once

#include "log/stored_message.hpp"
#include "pg/pg.hpp"
#include "pg/spi.hpp"

namespace herald {

// What the parked table and the dead letters have of a message; and its attempts.
#define HERALD_MESSAGE_COLUMNS \
    "subscription_id, message_id, channel_id, published_at, published_by, key, headers, payload, schema_version"
#define HERALD_PARKED_COLUMNS HERALD_MESSAGE_COLUMNS ", attempts"

inline pg::Param OptionalText(const text *value) { return pg::TextDatum(PointerGetDatum(value), value == nullptr); }

inline pg::Param OptionalJsonb(const Jsonb *value) { return pg::Jsonb(PointerGetDatum(value), value == nullptr); }

inline pg::Param SchemaVersion(const StoredMessage &message) {
    pg::Param version = pg::Int4(message.schema_version);
    version.is_null = message.schema_version == 0;
    return version;
}

// Puts the task into the parked table, or updates its attempts and time where it is there already.
void ParkTask(int32 subscription_id, const StoredMessage &message, int32 attempts, TimestampTz next_attempt_at);

// Takes the task out of the parked table. False: it was not there. 55P03 where another transaction has it locked.
bool DeleteParked(int32 subscription_id, int64 message_id);

// Reads a parked task into the current memory context, as the newest committed state (or this transaction's own) has
// it. False: it is not parked.
bool ReadParked(int32 subscription_id, int64 message_id, StoredMessage *message);

}  // namespace herald
