// See row_recording.hpp.

#include "change/row_recording.hpp"

#include "change/output_settings.hpp"

namespace herald {

Recording BeginRecording(TriggerData *trigger) {
    Recording recording{};
    recording.pinned = PinOutputSettings(ShapeOf(trigger->tg_relation)->needs);
    recording.pairs = BeginRowPairs(trigger);
    recording.caller = CurrentMemoryContext;
    recording.row_context =
        recording.pairs.count > 1
            ? AllocSetContextCreate(CurrentMemoryContext, "pg_herald recorded row", ALLOCSET_DEFAULT_SIZES)
            : CurrentMemoryContext;
    return recording;
}

void RestartRecording(Recording *recording) {
    TriggerData *trigger = recording->pairs.trigger;
    EndRowPairs(&recording->pairs);
    recording->pairs = BeginRowPairs(trigger);
}

void EndRecording(Recording *recording) {
    EndRowPairs(&recording->pairs);
    if (recording->row_context != recording->caller) MemoryContextDelete(recording->row_context);
    UnpinOutputSettings(recording->pinned);
}

}  // namespace herald
