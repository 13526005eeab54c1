// Rows, or some of their columns, as jsonb objects: what to_jsonb(row) gives for them.

#pragma once

#include "change/json_writer.hpp"
#include "change/table_shape.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "executor/tuptable.h"
}

namespace herald {

// The values of a row by attribute number - 1, as a slot or heap_deform_tuple gives them.
struct RowValues {
    const Datum *values;
    const bool *nulls;
};

inline RowValues ValuesOf(TupleTableSlot *slot) {
    slot_getallattrs(slot);
    return {slot->tts_values, slot->tts_isnull};
}

// Appends an object of the given columns (indexes in row->columns, ascending).
JEntry AppendObject(JsonBuffer *buffer, const RowShape *row, const int16 *columns, int count, RowValues values);

// Of all columns.
inline JEntry AppendObject(JsonBuffer *buffer, const RowShape *row, RowValues values) {
    return AppendObject(buffer, row, row->all, row->column_count, values);
}

// The begin of an object of these columns: its keys. Then comes a SetEntry for each.
JsonStart BeginObject(JsonBuffer *buffer, const RowShape *row, const int16 *columns, int count);

// An object of the given columns; it lies in the buffer, until the next ResetJsonBuffer. Temporary memory is of
// the current context.
Jsonb *RowJson(JsonBuffer *buffer, const RowShape *row, const int16 *columns, int count, RowValues values);

// True where both rows have the same value in a column, by its image. What lies in TOAST is read only where
// both have another copy of it.
bool SameValue(const ShapeColumn &column, RowValues a, RowValues b);

}  // namespace herald
