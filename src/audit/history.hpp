// The history of one row.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
#include "utils/tuplestore.h"
}

namespace herald {

// Puts the entries about a row into a tuplestore, as rows of herald.audit_log, oldest first. ERRORs: 42501 for
// who neither owns the table nor may read the trail, 42704 where the table was never audited.
void CollectHistory(Oid relation, const Jsonb *record_id, Tuplestorestate *result, TupleDesc descriptor);

}  // namespace herald
