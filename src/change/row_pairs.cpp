// See row_pairs.hpp. The tables' first read pointer is used: what scans them by SQL has one of its own.

#include "change/row_pairs.hpp"

extern "C" {
#include "utils/rel.h"
}

namespace herald {

namespace {

TupleTableSlot *BeginWalk(Tuplestorestate *rows, TupleDesc desc) {
    tuplestore_select_read_pointer(rows, 0);
    tuplestore_rescan(rows);
    return MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
}

bool Next(Tuplestorestate *rows, TupleTableSlot *slot) {
    CHECK_FOR_INTERRUPTS();
    return tuplestore_gettupleslot(rows, true, false, slot);
}

}  // namespace

RowPairs BeginRowPairs(TriggerData *trigger) {
    RowPairs pairs{};
    pairs.trigger = trigger;
    pairs.paired = true;
    if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event)) {
        // Of the slots the server hands over, the first has the new row of an INSERT, else the old one.
        if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event)) {
            pairs.new_slot = trigger->tg_trigslot;
        } else {
            pairs.old_slot = trigger->tg_trigslot;
            if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event)) pairs.new_slot = trigger->tg_newslot;
        }
        pairs.count = 1;
        return pairs;
    }

    TupleDesc desc = RelationGetDescr(trigger->tg_relation);
    pairs.own_slots = true;
    pairs.old_rows = TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? nullptr : trigger->tg_oldtable;
    pairs.new_rows = TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? nullptr : trigger->tg_newtable;
    const int64 old_count = pairs.old_rows ? tuplestore_tuple_count(pairs.old_rows) : 0;
    const int64 new_count = pairs.new_rows ? tuplestore_tuple_count(pairs.new_rows) : 0;
    pairs.count = Max(old_count, new_count);
    pairs.paired = !pairs.old_rows || !pairs.new_rows || old_count == new_count;
    if (old_count > 0) pairs.old_slot = BeginWalk(pairs.old_rows, desc);
    if (new_count > 0) pairs.new_slot = BeginWalk(pairs.new_rows, desc);
    return pairs;
}

bool NextOldRow(RowPairs *pairs) { return pairs->old_slot != nullptr && Next(pairs->old_rows, pairs->old_slot); }

bool NextNewRow(RowPairs *pairs) { return pairs->new_slot != nullptr && Next(pairs->new_rows, pairs->new_slot); }

bool NextRowPair(RowPairs *pairs) {
    if (!pairs->own_slots) {
        if (pairs->begun) return false;
        pairs->begun = true;
        return true;
    }
    const bool has_old = NextOldRow(pairs);
    const bool has_new = NextNewRow(pairs);
    if (pairs->old_rows != nullptr && pairs->new_rows != nullptr && has_old != has_new)
        ereport(ERROR,
                (errcode(ERRCODE_INTERNAL_ERROR), errmsg("old and new rows of an UPDATE of \"%s\" differ in number",
                                                         RelationGetRelationName(pairs->trigger->tg_relation))));
    return has_old || has_new;
}

void EndRowPairs(RowPairs *pairs) {
    if (!pairs->own_slots) return;
    if (pairs->old_slot != nullptr) ExecDropSingleTupleTableSlot(pairs->old_slot);
    if (pairs->new_slot != nullptr) ExecDropSingleTupleTableSlot(pairs->new_slot);
}

}  // namespace herald
