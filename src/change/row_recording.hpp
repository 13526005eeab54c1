// Recording what a statement has changed, row by row, as the user who changes it: shared by audit trails and change
// feeds. A value's conversion may run code of users, which may change tables that are recorded, too. So everything is on
// the stack of who records.
//
//     Recording recording = BeginRecording(trigger);
//     RecordRows(&recording, [&](const RowValues *old, const RowValues *now) { ...; return true; });
//     EndRecording(&recording);

#pragma once

#include "change/row_pairs.hpp"

namespace herald {

struct Recording {
    RowPairs pairs;
    MemoryContext caller;
    // Memory of one row; that of a single one goes with the trigger's.
    MemoryContext row_context;
    int pinned;  // nest level of the settings that values are converted under
};

Recording BeginRecording(TriggerData *trigger);
void EndRecording(Recording *recording);
// The rows are gone through once more.
void RestartRecording(Recording *recording);

// Calls `record` for each row with what was there before and is there now, NULL for nothing, in memory that is gone after
// it. Ends with the first false.
template <class Record>
void RecordRows(Recording *recording, Record record) {
    RowPairs *pairs = &recording->pairs;
    auto one = [&](TupleTableSlot *old_slot, TupleTableSlot *new_slot) {
        RowValues old{};
        RowValues now{};
        if (old_slot != nullptr) old = ValuesOf(old_slot);
        if (new_slot != nullptr) now = ValuesOf(new_slot);
        MemoryContextSwitchTo(recording->row_context);
        const bool more = record(old_slot == nullptr ? nullptr : &old, new_slot == nullptr ? nullptr : &now);
        MemoryContextSwitchTo(recording->caller);
        if (recording->row_context != recording->caller) MemoryContextReset(recording->row_context);
        return more;
    };
    bool more = true;
    while (more && pairs->paired && NextRowPair(pairs)) more = one(pairs->old_slot, pairs->new_slot);
    // Nobody can say which of these belong together; what there was and what there is now stays true.
    while (more && !pairs->paired && NextOldRow(pairs)) more = one(pairs->old_slot, nullptr);
    while (more && !pairs->paired && NextNewRow(pairs)) more = one(nullptr, pairs->new_slot);
}

}  // namespace herald
