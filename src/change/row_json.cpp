// See row_json.hpp.

#include "change/row_json.hpp"

extern "C" {
#include "utils/datum.h"
}

namespace herald {

JsonStart BeginObject(JsonBuffer *buffer, const RowShape *row, const int16 *columns, int count) {
    JsonStart start = BeginContainer(buffer, JB_FOBJECT, static_cast<uint32>(count));
    for (int i = 0; i < count; i++) {
        const ShapeColumn &column = row->columns[columns[i]];
        SetEntry(buffer, &start, AppendString(buffer, column.name, column.name_length));
    }
    return start;
}

JEntry AppendObject(JsonBuffer *buffer, const RowShape *row, const int16 *columns, int count, RowValues values) {
    check_stack_depth();
    JsonStart start = BeginObject(buffer, row, columns, count);
    for (int i = 0; i < count; i++) {
        const ShapeColumn &column = row->columns[columns[i]];
        const int attribute = column.number - 1;
        SetEntry(
            buffer, &start,
            values.nulls[attribute] ? AppendNull() : AppendValue(buffer, *column.conversion, values.values[attribute]));
    }
    return EndContainer(buffer, start);
}

Jsonb *RowJson(JsonBuffer *buffer, const RowShape *row, const int16 *columns, int count, RowValues values) {
    ResetJsonBuffer(buffer);
    (void)AppendObject(buffer, row, columns, count, values);
    return FinishJson(buffer);
}

bool SameValue(const ShapeColumn &column, RowValues a, RowValues b) {
    const int attribute = column.number - 1;
    if (a.nulls[attribute] || b.nulls[attribute]) return a.nulls[attribute] == b.nulls[attribute];
    const Datum left = a.values[attribute];
    const Datum right = b.values[attribute];
    if (column.by_value) return datum_image_eq(left, right, true, column.length);
    if (column.length == -1) {
        const void *left_bytes = DatumGetPointer(left);
        const void *right_bytes = DatumGetPointer(right);
        const Size size = VARSIZE_ANY(left_bytes);
        if (size == VARSIZE_ANY(right_bytes) && std::memcmp(left_bytes, right_bytes, size) == 0) return true;
        // Both as they are, and neither is packed: then they differ.
        if (!VARATT_IS_EXTENDED(left_bytes) && !VARATT_IS_EXTENDED(right_bytes)) return false;
    }
    return datum_image_eq(left, right, false, column.length);
}

}  // namespace herald
