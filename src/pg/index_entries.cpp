// See index_entries.hpp.

#include "pg/index_entries.hpp"

extern "C" {
#include "access/genam.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"
}

namespace herald::pg {

void EnterInIndexes(Relation table, const Oid *indexes, int index_count, TupleTableSlot **slots, int count) {
    if (index_count == 0) return;
    EState *state = CreateExecutorState();
    ExprContext *expressions = GetPerTupleExprContext(state);
    for (int i = 0; i < index_count; i++) {
        Relation index = index_open(indexes[i], RowExclusiveLock);
        IndexInfo *info = BuildIndexInfo(index);
        ExprState *condition = info->ii_Predicate == NIL ? nullptr : ExecPrepareQual(info->ii_Predicate, state);
        for (int row = 0; info->ii_ReadyForInserts && row < count; row++) {
            Datum values[INDEX_MAX_KEYS];
            bool nulls[INDEX_MAX_KEYS];
            ResetExprContext(expressions);
            expressions->ecxt_scantuple = slots[row];
            if (condition != nullptr && !ExecQual(condition, expressions)) continue;
            FormIndexDatum(info, slots[row], state, values, nulls);
            (void)index_insert(index, values, nulls, &slots[row]->tts_tid, table,
                               info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
        }
        FinishIndexInserts(index, info);
        index_close(index, NoLock);
    }
    FreeExecutorState(state);
}

void EnterInAllIndexes(Relation table, TupleTableSlot **slots, int count) {
    List *list = RelationGetIndexList(table);
    const int index_count = list_length(list);
    Oid *indexes = static_cast<Oid *>(palloc(sizeof(Oid) * static_cast<Size>(Max(index_count, 1))));
    for (int i = 0; i < index_count; i++) indexes[i] = list_nth_oid(list, i);
    EnterInIndexes(table, indexes, index_count, slots, count);
    pfree(indexes);
    list_free(list);
}

}  // namespace herald::pg
