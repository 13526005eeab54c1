// See table_form.hpp.

#include "pg/table_form.hpp"

#include "pg/index_entries.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace herald::pg {

namespace {

// Tables that were seen to have their form, by the low bits of their oid. One that takes the place of another only
// makes that one be looked at again.
constexpr uint32 kPlaces = 256;
Oid seen[kPlaces];
uint64 changes = 0;  // counts invalidations: what was seen before one is not to be kept

bool IsDirect(const TableForm &form) {
    return form.rows_from == RowsFrom::kDirectInserts || form.rows_from == RowsFrom::kCertainInserts;
}

// Those of the script that are unique are the primary keys of tables that are written by statements.
bool MayRefuse(const TableForm &form, const FormData_pg_index &index) {
    return index.indisunique && (form.rows_from == RowsFrom::kCertainInserts ||
                                 (form.rows_from == RowsFrom::kCertainStatements && !index.indisprimary));
}

const char *TypeName(Oid type) { return format_type_be(type); }

const char *FindColumnMisfit(Relation table, const TableForm &form) {
    TupleDesc descriptor = RelationGetDescr(table);
    for (int i = 0; i < form.count; i++) {
        const ColumnForm &column = form.columns[i];
        if (i >= descriptor->natts) return psprintf("Column \"%s\" is missing.", column.name);
        const Form_pg_attribute there = TupleDescAttr(descriptor, i);
        if (there->attisdropped) return psprintf("Column \"%s\" was dropped.", column.name);
        if (std::strcmp(NameStr(there->attname), column.name) != 0)
            return psprintf("Column %d is \"%s\" instead of \"%s\".", i + 1, NameStr(there->attname), column.name);
        if (there->atttypid != column.type)
            return psprintf("Column \"%s\" is of type %s instead of %s.", column.name, TypeName(there->atttypid),
                            TypeName(column.type));
        if (there->attgenerated != '\0') return psprintf("Column \"%s\" is generated.", column.name);
        if (there->attnotnull != column.not_null)
            return psprintf(column.not_null ? "Column \"%s\" may be NULL." : "Column \"%s\" must not be NULL.",
                            column.name);
    }
    if (form.rows_from == RowsFrom::kStatements) return nullptr;
    for (int i = form.count; i < descriptor->natts; i++) {
        const Form_pg_attribute there = TupleDescAttr(descriptor, i);
        if (there->attisdropped) continue;
        const bool has_value = there->atthasdef || there->attidentity != '\0';
        const bool is_misfit = IsDirect(form)
                                   ? there->attnotnull || has_value || get_typtype(there->atttypid) == TYPTYPE_DOMAIN
                                   : there->attnotnull && !has_value;
        if (is_misfit) return psprintf("Column \"%s\" was added and can't be left NULL.", NameStr(there->attname));
    }
    return nullptr;
}

// Functions of the schema that the table is in are ours. Those guard rows against others, not against the library.
const char *FindTriggerMisfit(Relation table) {
    const TriggerDesc *triggers = table->trigdesc;
    if (triggers == nullptr) return nullptr;
    for (int i = 0; i < triggers->numtriggers; i++) {
        const Trigger &trigger = triggers->triggers[i];
        if (trigger.tgenabled == TRIGGER_DISABLED || !TRIGGER_FOR_INSERT(trigger.tgtype)) continue;
        if (get_func_namespace(trigger.tgfoid) == RelationGetNamespace(table)) continue;
        return trigger.tgisinternal ? psprintf("It has a foreign key, whose trigger is \"%s\".", trigger.tgname)
                                    : psprintf("It has a trigger \"%s\".", trigger.tgname);
    }
    return nullptr;
}

const char *FindIndexMisfit(Relation table, const TableForm &form) {
    const char *misfit = nullptr;
    if (!table->rd_rel->relhasindex) return nullptr;
    List *indexes = RelationGetIndexList(table);
    ListCell *cell;
    foreach (cell, indexes) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        const Form_pg_index shape = index->rd_index;
        if (misfit == nullptr &&
            (shape->indisexclusion || (IsDirect(form) && shape->indisunique && !shape->indimmediate)))
            misfit = psprintf("Its index \"%s\" is of an exclusion or a deferrable constraint.",
                              RelationGetRelationName(index));
        if (misfit == nullptr && MayRefuse(form, *shape))
            misfit = psprintf("Its index \"%s\" is unique.", RelationGetRelationName(index));
        index_close(index, AccessShareLock);
    }
    list_free(indexes);
    return misfit;
}

// What the executor would do for a row and a direct insert doesn't, or what may refuse or change a row.
const char *FindDuty(Relation table, const TableForm &form) {
    const TupleConstr *constraints = RelationGetDescr(table)->constr;
    if (IsDirect(form) && table->rd_tableam != GetHeapamTableAmRoutine()) return "Its access method is not heap.";
    if (constraints != nullptr && constraints->num_check > 0)
        return psprintf("It has a check constraint \"%s\".", constraints->check[0].ccname);
    if (table->rd_rules != nullptr) return "It has a rule.";
    const char *misfit = FindTriggerMisfit(table);
    return misfit != nullptr ? misfit : FindIndexMisfit(table, form);
}

const char *FindAnyMisfit(Relation table, const TableForm &form) {
    if (table->rd_rel->relkind != RELKIND_RELATION) return "It is not an ordinary table.";
    if (table->rd_rel->relispartition) return "It is a partition.";
    if (table->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
        return "It is unlogged, and would lose its rows in a crash.";
    // Their rows would be read by some statements, and not found by others.
    if (table->rd_rel->relhassubclass && find_inheritance_children(RelationGetRelid(table), NoLock) != NIL)
        return "Another table inherits from it.";
    const char *misfit = FindColumnMisfit(table, form);
    if (misfit != nullptr || form.rows_from == RowsFrom::kStatements) return misfit;
    return FindDuty(table, form);
}

}  // namespace

const char *FindMisfit(Relation table, const TableForm &form) {
    const uint64 changes_before = changes;
    const char *misfit = FindAnyMisfit(table, form);
    const Oid oid = RelationGetRelid(table);
    if (misfit == nullptr && changes == changes_before) seen[oid % kPlaces] = oid;
    return misfit;
}

void ReportMisfit(const char *table, const char *misfit) {
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("table \"herald_internal.%s\" does not have the form that this version of pg_herald needs", table),
             errdetail("%s", misfit), errhint("%s", kMisfitHint)));
    pg_unreachable();
}

bool KnownToFit(Oid table) { return seen[table % kPlaces] == table; }

Relation OpenTable(Oid table, LOCKMODE mode, const TableForm &form) {
    Relation relation = table_open(table, mode);
    if (KnownToFit(table)) return relation;
    const char *misfit = FindMisfit(relation, form);
    if (misfit != nullptr) ReportMisfit(RelationGetRelationName(relation), misfit);
    return relation;
}

void ForgetTable(Oid table) {
    changes++;
    if (!OidIsValid(table))
        std::memset(seen, 0, sizeof(seen));
    else if (seen[table % kPlaces] == table)
        seen[table % kPlaces] = InvalidOid;
}

HeapTuple FormRow(Relation table, const Datum *values, const bool *nulls, int count) {
    TupleDesc descriptor = RelationGetDescr(table);
    const int all = descriptor->natts;
    if (all == count) return heap_form_tuple(descriptor, const_cast<Datum *>(values), const_cast<bool *>(nulls));
    Datum *all_values = static_cast<Datum *>(palloc0(sizeof(Datum) * static_cast<Size>(all)));
    bool *all_nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<Size>(all)));
    for (int i = 0; i < all; i++) {
        all_nulls[i] = i >= count || nulls[i];
        if (i < count) all_values[i] = values[i];
    }
    HeapTuple row = heap_form_tuple(descriptor, all_values, all_nulls);
    pfree(all_values);
    pfree(all_nulls);
    return row;
}

void InsertRow(Relation table, HeapTuple row) {
    heap_insert(table, row, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, nullptr);
    if (!table->rd_rel->relhasindex) return;
    TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);
    ExecStoreHeapTuple(row, slot, false);
    EnterInAllIndexes(table, &slot, 1);
    ExecDropSingleTupleTableSlot(slot);
}

void InsertRows(Relation table, TupleTableSlot **slots, int count, BulkInsertState bulk) {
    // From here on: many at once can't be kept from logical decoding.
    heap_multi_insert(table, slots, count, GetCurrentCommandId(true), 0, bulk);
    if (table->rd_rel->relhasindex) EnterInAllIndexes(table, slots, count);
}

}  // namespace herald::pg
