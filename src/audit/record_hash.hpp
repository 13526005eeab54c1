// Under which number the entries of one row are found.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
}

namespace herald {

// Equal for equal identities, whatever the form of their numbers.
inline int64 RecordHash(int32 target_id, const Jsonb *record_id) {
    return DatumGetInt64(DirectFunctionCall2(jsonb_hash_extended, PointerGetDatum(record_id),
                                             Int64GetDatum(static_cast<int64>(target_id))));
}

}  // namespace herald
