// Reading SQL arguments that may be NULL, those that must be there, and arrays of text.

#pragma once

#include <optional>

#include "pg/pg.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/timestamp.h"
}

namespace herald::pg {

// The elements of a stored text[], in the current context; a NULL is an empty text.
inline const char **TextElements(Datum array, int *count) {
    Datum *elements;
    bool *nulls;
    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
    const char **texts = static_cast<const char **>(palloc(sizeof(char *) * static_cast<Size>(Max(*count, 1))));
    for (int i = 0; i < *count; i++) texts[i] = nulls[i] ? "" : TextDatumGetCString(elements[i]);
    return texts;
}

[[noreturn]] inline void ReportNull(const char *argument) {
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be NULL", argument)));
    pg_unreachable();
}

inline const char *RequiredText(FunctionCallInfo fcinfo, int argument, const char *name) {
    if (PG_ARGISNULL(argument)) ReportNull(name);
    return text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

inline const char *OptionalText(FunctionCallInfo fcinfo, int argument) {
    return PG_ARGISNULL(argument) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

inline const Interval *OptionalInterval(FunctionCallInfo fcinfo, int argument) {
    return PG_ARGISNULL(argument) ? nullptr : PG_GETARG_INTERVAL_P(argument);
}

inline std::optional<int32> OptionalInt4(FunctionCallInfo fcinfo, int argument) {
    if (PG_ARGISNULL(argument)) return std::nullopt;
    return PG_GETARG_INT32(argument);
}

inline std::optional<double> OptionalFloat8(FunctionCallInfo fcinfo, int argument) {
    if (PG_ARGISNULL(argument)) return std::nullopt;
    return PG_GETARG_FLOAT8(argument);
}

inline std::optional<bool> OptionalBool(FunctionCallInfo fcinfo, int argument) {
    if (PG_ARGISNULL(argument)) return std::nullopt;
    return PG_GETARG_BOOL(argument);
}

// NULL is false.
inline bool Flag(FunctionCallInfo fcinfo, int argument) { return !PG_ARGISNULL(argument) && PG_GETARG_BOOL(argument); }

}  // namespace herald::pg
