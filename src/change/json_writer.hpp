// Writes jsonb in its stored form, value after value, into one buffer that is used again and again:
// no tree of JsonbValues is built, and a row costs no allocation.
//
// Each Append function adds a value's bytes and returns its entry (type and length, padding included), which
// the container around it puts among its entries. Containers begin by reserving room for these:
//
//     JsonStart start = BeginContainer(&buffer, JB_FARRAY, 2);
//     SetEntry(&buffer, &start, AppendString(&buffer, "a", 1));
//     SetEntry(&buffer, &start, AppendNull());
//     JEntry entry = EndContainer(&buffer, start);
//
// In an object the keys come first, in jsonb's order (shorter ones first, then by bytes), then the values.
// Values are aligned in relation to the buffer's begin, which is that of a Jsonb with its header.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

struct JsonBuffer {
    char *data;
    Size length;
    Size capacity;
    MemoryContext context;
};

struct JsonStart {
    Size begin;    // where it begins, before padding
    Size entries;  // where the next entry goes
    uint32 index;  // how many there are already
    uint32 total;  // bytes of what they describe
};

// What jsonb can hold in one container.
inline constexpr Size kMaxJsonBytes = JENTRY_OFFLENMASK;

// A buffer whose memory comes from `context` when it is needed.
void InitJsonBuffer(JsonBuffer *buffer, MemoryContext context);

// Empties it, but for the header of a Jsonb; gives back what an unusually large value has taken.
void ResetJsonBuffer(JsonBuffer *buffer);

// The one container in the buffer as a Jsonb: in the buffer, until the next ResetJsonBuffer.
Jsonb *FinishJson(JsonBuffer *buffer);

void GrowJsonBuffer(JsonBuffer *buffer, Size more);

// Room for `more` bytes at the end; they count when the caller has added them to `length`.
inline char *ReserveJson(JsonBuffer *buffer, Size more) {
    if (buffer->capacity - buffer->length < more) GrowJsonBuffer(buffer, more);
    return buffer->data + buffer->length;
}

// Zeros up to a multiple of four; returns how many.
inline uint32 PadJson(JsonBuffer *buffer) {
    const uint32 padding = static_cast<uint32>(INTALIGN(buffer->length) - buffer->length);
    char *to = ReserveJson(buffer, sizeof(int32));
    std::memset(to, 0, sizeof(int32));
    buffer->length += padding;
    return padding;
}

inline JEntry AppendNull() { return JENTRY_ISNULL; }
inline JEntry AppendBool(bool value) { return value ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE; }

// At most kMaxJsonBytes.
inline JEntry AppendString(JsonBuffer *buffer, const char *bytes, Size length) {
    std::memcpy(ReserveJson(buffer, length), bytes, length);
    buffer->length += length;
    return JENTRY_ISSTRING | static_cast<JEntry>(length);
}

JEntry AppendInteger(JsonBuffer *buffer, int64 value);

// A numeric that is neither NaN nor infinite, as a varlena of any header, but not compressed or external.
JEntry AppendNumeric(JsonBuffer *buffer, const void *numeric);

// The value of another jsonb, a scalar as such.
JEntry AppendJsonb(JsonBuffer *buffer, const Jsonb *value);

// {"omitted_bytes": n}: stands for a value that is too large.
JEntry AppendOmitted(JsonBuffer *buffer, int64 bytes);

// `kind` is JB_FARRAY or JB_FOBJECT, `count` that of elements or pairs.
JsonStart BeginContainer(JsonBuffer *buffer, uint32 kind, uint32 count);

inline void SetEntry(JsonBuffer *buffer, JsonStart *start, JEntry entry) {
    start->total += entry & JENTRY_OFFLENMASK;
    if (start->index++ % JB_OFFSET_STRIDE == 0) entry = (entry & JENTRY_TYPEMASK) | start->total | JENTRY_HAS_OFF;
    std::memcpy(buffer->data + start->entries, &entry, sizeof(entry));
    start->entries += sizeof(entry);
}

inline JEntry EndContainer(const JsonBuffer *buffer, const JsonStart &start) {
    return JENTRY_ISCONTAINER | static_cast<JEntry>(buffer->length - start.begin);
}

}  // namespace herald
