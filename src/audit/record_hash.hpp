// The number under which a row's changes are indexed. Equal identities have equal numbers; who looks one up
// compares record_id as well.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

// `record_id` is an object of the key's columns. Their names don't count, only the values in the order of the
// names, so that renaming a key of one column changes nothing. Never 0.
int64 RecordHash(int32 target_id, const Jsonb *record_id);

}  // namespace herald
