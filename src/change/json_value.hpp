// How values of a type become JSON: what to_jsonb gives for them, found out once per column instead of once
// per value. Conversion runs as whoever is the current user, as a CAST (type AS json) is that user's code.
//
// It differs from to_jsonb in one way: what jsonb can't hold is no error. A json value that it can't parse (a
// \u0000, say) becomes its text, as a string; a value that is too large becomes {"omitted_bytes": n}.

#pragma once

#include "change/json_writer.hpp"
#include "change/output_settings.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "access/tupdesc.h"
#include "utils/datetime.h"
}

namespace herald {

enum class ConversionKind : uint8 {
    kBool,
    kInt2,
    kInt4,
    kInt8,
    kFloat4,
    kFloat8,
    kNumeric,
    kText,  // whose bytes are what the output function gives
    kUuid,
    kDate,
    kTimestamp,
    kTimestampTz,
    kJsonb,
    kJson,
    kJsonCast,  // by a user's CAST (type AS json)
    kArray,
    kComposite,
    kMoney,
    kName,    // of an object of the database, qualified where it needs to be
    kOutput,  // by the type's output function, as a string
};

struct RowShape;

struct Conversion {
    ConversionKind kind;
    Oid type;  // below domains
    int16 length;
    bool by_value;
    char alignment;
    FmgrInfo output;            // kOutput, kName, kFloat4, kFloat8
    Oid cast;                   // kJsonCast
    const Conversion *element;  // kArray
    const RowShape *row;        // kComposite
    // The last time that was converted, because many rows of a statement have the same.
    mutable struct {
        int length;
        int64 value;
        char text[MAXDATELEN + 1];
    } last;
};

// What it takes to make conversions and shapes: where they live, and what they depend on.
struct ShapeBuilder {
    MemoryContext context;
    Oid *relations;  // of composite types, palloc'd
    int relation_count;
    OutputNeeds needs;  // of all types so far
};

// To be kept as long as the builder's context. Looks into the catalogs.
const Conversion *MakeConversion(ShapeBuilder *builder, Oid type);

// Appends a value that is not NULL. Temporary memory is of the current context.
JEntry AppendValue(JsonBuffer *buffer, const Conversion &conversion, Datum value);

// The bytes of a varlena value, without detoasting it.
Size BytesOf(Datum value);

}  // namespace herald
