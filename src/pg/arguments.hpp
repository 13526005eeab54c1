// Reading SQL arguments that must be there.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

[[noreturn]] inline void ReportNull(const char *argument) {
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                    errmsg("%s must not be NULL", argument)));
    pg_unreachable();
}

inline const char *RequiredText(FunctionCallInfo fcinfo, int argument, const char *name) {
    if (PG_ARGISNULL(argument)) ReportNull(name);
    return text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

}  // namespace herald::pg
