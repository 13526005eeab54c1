// Index entries for rows that were put into a heap past the executor: of any index, also of one that an
// administrator has made.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "executor/tuptable.h"
#include "utils/relcache.h"
}

namespace herald::pg {

// The slots know where their rows are.
void EnterInIndexes(Relation table, const Oid *indexes, int index_count, TupleTableSlot **slots, int count);
void EnterInAllIndexes(Relation table, TupleTableSlot **slots, int count);

}  // namespace herald::pg
