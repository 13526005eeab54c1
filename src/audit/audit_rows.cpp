// See audit_rows.hpp. A value that is not recorded is not looked at; one that is the same in both rows of an
// UPDATE is not read from TOAST for a record of what has changed.

#include "pg/pg.hpp"

#include "audit/audit_rows.hpp"

#include <algorithm>

#include "audit/audit_mask.hpp"
#include "audit/audit_writer.hpp"
#include "change/row_recording.hpp"
#include "change/row_json.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

// What of a relation's rows is recorded. Lists are of indexes in shape->columns, ascending.
struct RowPlan {
    const AuditTarget *target;
    const RowShape *shape;
    int column_count;
    const int16 *columns;  // all but the excluded ones
    int key_count;
    const int16 *key;
};

struct Recorder {
    RowPlan plan;
    AuditWriter writer;
    MemoryContext context;  // of what lasts
    JsonBuffer old_json;
    JsonBuffer new_json;
    JsonBuffer key_json;
    JsonBuffer old_key_json;
    int16 *changed;  // columns of the row at hand
    int changed_count;
    int16 *named;  // those whose names are in changed_names
    int named_count;
    ArrayType *changed_names;
};

int16 *MakeList(int length) { return static_cast<int16 *>(palloc(sizeof(int16) * static_cast<Size>(Max(length, 1)))); }

RowPlan MakePlan(const AuditTarget &target, const RowShape *shape) {
    RowPlan plan{&target, shape, shape->column_count, shape->all, 0, nullptr};
    if (!target.all_recorded) {
        int16 *columns = MakeList(shape->column_count);
        plan.column_count = 0;
        for (int i = 0; i < shape->column_count; i++)
            if (target.columns[shape->columns[i].number - 1] != ColumnTreatment::kExcluded)
                columns[plan.column_count++] = static_cast<int16>(i);
        plan.columns = columns;
    }
    int16 *key = MakeList(target.key_count);
    for (int i = 0; i < target.key_count; i++) {
        const int16 column = shape->index_of[target.key[i] - 1];
        int place = plan.key_count++;
        for (; place > 0 && key[place - 1] > column; place--) key[place] = key[place - 1];
        key[place] = column;
    }
    plan.key = key;
    return plan;
}

Recorder BeginRecorder(const AuditTarget &target, TriggerData *trigger, int64 rows_expected) {
    Recorder recorder{};
    recorder.plan = MakePlan(target, &ShapeOf(trigger->tg_relation)->row);
    recorder.writer = BeginAudit(target, trigger->tg_relation, rows_expected);
    for (JsonBuffer *buffer : {&recorder.old_json, &recorder.new_json, &recorder.key_json, &recorder.old_key_json})
        InitJsonBuffer(buffer, CurrentMemoryContext);
    recorder.context = CurrentMemoryContext;
    if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event)) {
        recorder.changed = MakeList(recorder.plan.column_count);
        recorder.named = MakeList(recorder.plan.column_count);
    }
    return recorder;
}

// An object of some columns as the trail shows them.
const Jsonb *Show(JsonBuffer *buffer, const RowPlan &plan, const int16 *columns, int count, RowValues values) {
    if (plan.target->all_recorded) return RowJson(buffer, plan.shape, columns, count, values);

    ResetJsonBuffer(buffer);
    JsonStart start = BeginObject(buffer, plan.shape, columns, count);
    for (int i = 0; i < count; i++) {
        const ShapeColumn &column = plan.shape->columns[columns[i]];
        const int attribute = column.number - 1;
        const ColumnTreatment treatment = plan.target->columns[attribute];
        JEntry entry;
        if (values.nulls[attribute])
            entry = AppendNull();
        else if (treatment == ColumnTreatment::kRecorded)
            entry = AppendValue(buffer, *column.conversion, values.values[attribute]);
        else
            entry = AppendMasked(buffer, *plan.target, treatment, *column.conversion, values.values[attribute]);
        SetEntry(buffer, &start, entry);
    }
    return FinishJson(buffer);
}

const Jsonb *ShowAll(JsonBuffer *buffer, const RowPlan &plan, RowValues values) {
    return Show(buffer, plan, plan.columns, plan.column_count, values);
}

const Jsonb *ShowKey(JsonBuffer *buffer, const RowPlan &plan, RowValues values) {
    if (plan.key_count == 0) return nullptr;
    return Show(buffer, plan, plan.key, plan.key_count, values);
}

void FindChanges(Recorder *recorder, RowValues old_row, RowValues new_row) {
    const RowPlan &plan = recorder->plan;
    recorder->changed_count = 0;
    for (int i = 0; i < plan.column_count; i++)
        if (!SameValue(plan.shape->columns[plan.columns[i]], old_row, new_row))
            recorder->changed[recorder->changed_count++] = plan.columns[i];
}

// The names of the changed columns, in the order of the table. Rows of one statement mostly have the same.
const ArrayType *NameChanges(Recorder *recorder) {
    const RowPlan &plan = recorder->plan;
    const int count = recorder->changed_count;
    if (recorder->changed_names != nullptr && recorder->named_count == count &&
        std::equal(recorder->named, recorder->named + count, recorder->changed))
        return recorder->changed_names;

    MemoryContext caller = MemoryContextSwitchTo(recorder->context);
    Datum *names = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(count)));
    int16 *order = MakeList(count);
    for (int i = 0; i < count; i++) {
        const int16 column = recorder->changed[i];
        int place = i;
        for (; place > 0 && plan.shape->columns[order[place - 1]].number > plan.shape->columns[column].number; place--)
            order[place] = order[place - 1];
        order[place] = column;
    }
    for (int i = 0; i < count; i++) names[i] = CStringGetTextDatum(plan.shape->columns[order[i]].name);
    if (recorder->changed_names != nullptr) pfree(recorder->changed_names);
    recorder->changed_names = construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT);
    std::copy_n(recorder->changed, count, recorder->named);
    recorder->named_count = count;
    for (int i = 0; i < count; i++) pfree(DatumGetPointer(names[i]));
    pfree(names);
    pfree(order);
    MemoryContextSwitchTo(caller);
    return recorder->changed_names;
}

bool KeyHasChanged(const Recorder &recorder) {
    int key = 0;
    for (int i = 0; i < recorder.changed_count; i++) {
        while (key < recorder.plan.key_count && recorder.plan.key[key] < recorder.changed[i]) key++;
        if (key < recorder.plan.key_count && recorder.plan.key[key] == recorder.changed[i]) return true;
    }
    return false;
}

void RecordWhole(Recorder *recorder, AuditOperation operation, RowValues values) {
    const RowPlan &plan = recorder->plan;
    const bool with_row = plan.target->record != AuditRecord::kKeys;
    const Jsonb *whole = with_row ? ShowAll(&recorder->new_json, plan, values) : nullptr;
    AuditRow row{};
    row.operation = operation;
    row.record_id = ShowKey(&recorder->key_json, plan, values);
    if (operation == AuditOperation::kInsert)
        row.new_row = whole;
    else
        row.old_row = whole;
    WriteAudit(&recorder->writer, row);
}

void RecordUpdate(Recorder *recorder, RowValues old_row, RowValues new_row) {
    const RowPlan &plan = recorder->plan;
    FindChanges(recorder, old_row, new_row);
    if (recorder->changed_count == 0) return;

    AuditRow row{};
    row.operation = AuditOperation::kUpdate;
    row.changed = NameChanges(recorder);
    row.record_id = ShowKey(&recorder->key_json, plan, new_row);
    if (KeyHasChanged(*recorder)) row.old_record_id = ShowKey(&recorder->old_key_json, plan, old_row);
    switch (plan.target->record) {
        case AuditRecord::kFull:
            row.old_row = ShowAll(&recorder->old_json, plan, old_row);
            row.new_row = ShowAll(&recorder->new_json, plan, new_row);
            break;
        case AuditRecord::kDiff:
            row.old_row = Show(&recorder->old_json, plan, recorder->changed, recorder->changed_count, old_row);
            row.new_row = Show(&recorder->new_json, plan, recorder->changed, recorder->changed_count, new_row);
            break;
        case AuditRecord::kKeys:
            break;
    }
    WriteAudit(&recorder->writer, row);
}

}  // namespace

void AuditRows(const AuditTarget &target, TriggerData *trigger) {
    Recording recording = BeginRecording(trigger);
    if (recording.pairs.count > 0) {
        Recorder recorder = BeginRecorder(target, trigger, recording.pairs.count);
        RecordRows(&recording, [&](const RowValues *old_row, const RowValues *new_row) {
            if (old_row == nullptr)
                RecordWhole(&recorder, AuditOperation::kInsert, *new_row);
            else if (new_row == nullptr)
                RecordWhole(&recorder, AuditOperation::kDelete, *old_row);
            else
                RecordUpdate(&recorder, *old_row, *new_row);
            return true;
        });
        EndAudit(&recorder.writer);
    }
    EndRecording(&recording);
}

}  // namespace herald
