// Walks through what a statement has changed, as its AFTER trigger sees it: row i of the OLD table with row i of
// the NEW one. A row trigger is a walk of one step.

#pragma once

#include "change/row_json.hpp"
#include "pg/pg.hpp"

extern "C" {
#include "commands/trigger.h"
#include "utils/tuplestore.h"
}

namespace herald {

struct RowPairs {
    TriggerData *trigger;
    Tuplestorestate *old_rows;  // NULL: none, as for an INSERT
    Tuplestorestate *new_rows;
    TupleTableSlot *old_slot;
    TupleTableSlot *new_slot;
    int64 count;
    bool own_slots;
    bool begun;
    // As many rows in both, where there are both. Where not, nothing says which belong together: a BEFORE
    // INSERT trigger of a partition can make a moved row vanish.
    bool paired;
};

// Where it is true changes are seen by row triggers, else by statement triggers; the others have to do nothing. Which ones
// fire is said in the catalog, too, but ALTER TABLE … ENABLE TRIGGER ALL changes that, and each change would count twice.
inline bool IsReplicating() { return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA; }

RowPairs BeginRowPairs(TriggerData *trigger);

// The next rows in old_slot and new_slot, or false. To be called in a context that outlives the walk's rows:
// a slot may own memory of it. Where they are not paired, walk with NextOldRow first and then with NextNewRow.
bool NextRowPair(RowPairs *pairs);
bool NextOldRow(RowPairs *pairs);
bool NextNewRow(RowPairs *pairs);

void EndRowPairs(RowPairs *pairs);

}  // namespace herald
