// See column_options.hpp.

#include "pg/pg.hpp"

#include "audit/column_options.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace herald {

namespace {

constexpr std::string_view kHash = "hash:";

[[noreturn]] void ReportOption(const char *what, const char *value, const char *hint) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s \"%s\"", what, value), errhint("%s", hint)));
    pg_unreachable();
}

AttrNumber RequireColumn(Oid relation, const char *name) {
    const AttrNumber number = get_attnum(relation, name);
    if (number > 0) return number;
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                    errmsg("column \"%s\" of table \"%s\" does not exist", name, get_rel_name(relation))));
    pg_unreachable();
}

ColumnList NewList(int room) {
    ColumnList list = {};
    list.names = static_cast<const char **>(palloc0(sizeof(char *) * Max(room, 1)));
    list.numbers = static_cast<AttrNumber *>(palloc0(sizeof(AttrNumber) * Max(room, 1)));
    return list;
}

bool Contains(const ColumnList &list, AttrNumber number) {
    for (int i = 0; i < list.count; i++)
        if (list.numbers[i] == number) return true;
    return false;
}

void AddColumn(ColumnList *list, const char *name, AttrNumber number) {
    if (Contains(*list, number)) return;
    list->names[list->count] = name;
    list->numbers[list->count++] = number;
}

void RequireNoKey(Oid relation, const ColumnList &list, const AttrNumber *key, int key_count) {
    for (int i = 0; i < key_count; i++) {
        if (!Contains(list, key[i])) continue;
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("column \"%s\" belongs to the key of table \"%s\" and can't be hidden",
                               ColumnName(relation, key[i]), get_rel_name(relation)),
                        errdetail("The trail tells by the key which row was changed.")));
    }
}

AuditOperations CheckOperations(const AuditOptions &options) {
    AuditOperations operations = {};
    for (int i = 0; i < options.operation_count; i++) {
        const std::string_view name = options.operations[i];
        if (name == "insert")
            operations.insert = true;
        else if (name == "update")
            operations.update = true;
        else if (name == "delete")
            operations.del = true;
        else if (name == "truncate")
            operations.truncate = true;
        else
            ReportOption("unknown operation", options.operations[i],
                         "Operations are insert, update, delete and truncate.");
    }
    if (options.operation_count == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("operations is empty"),
                        errhint("herald.disable_audit() ends auditing.")));
    return operations;
}

}  // namespace

CheckedOptions CheckOptions(Oid relation, const AuditOptions &options, const AttrNumber *key, int key_count) {
    CheckedOptions checked = {};
    const std::string_view record = options.record;
    if (record != "full" && record != "diff" && record != "keys")
        ReportOption("unknown kind of record", options.record, "It is full, diff or keys.");
    checked.record = options.record;
    checked.operations = CheckOperations(options);
    checked.excluded = NewList(options.exclude_count);
    checked.masked = NewList(options.mask_count);
    checked.hashed = NewList(options.mask_count);
    for (int i = 0; i < options.exclude_count; i++)
        AddColumn(&checked.excluded, options.exclude[i], RequireColumn(relation, options.exclude[i]));
    for (int i = 0; i < options.mask_count; i++) {
        const char *name = options.mask[i];
        // A column that is really called hash:... comes first.
        const bool hashed = std::string_view(name).substr(0, kHash.size()) == kHash && get_attnum(relation, name) <= 0;
        if (hashed) name += kHash.size();
        const AttrNumber number = RequireColumn(relation, name);
        if (Contains(checked.excluded, number) || Contains(hashed ? checked.masked : checked.hashed, number))
            ReportOption("options contradict each other about column", name,
                         "Exclude it, or mask it, or mask it by a hash.");
        AddColumn(hashed ? &checked.hashed : &checked.masked, name, number);
    }
    RequireNoKey(relation, checked.excluded, key, key_count);
    RequireNoKey(relation, checked.masked, key, key_count);
    RequireNoKey(relation, checked.hashed, key, key_count);
    if (key_count == 0 && record != "full")
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table \"%s\" has no key, so its rows must be recorded in full", get_rel_name(relation)),
                        errhint("Add a primary key, set REPLICA IDENTITY USING INDEX, or use record => 'full'.")));
    return checked;
}

pg::Param TextArray(const char *const *texts, int count) {
    Datum *items = static_cast<Datum *>(palloc(sizeof(Datum) * Max(count, 1)));
    for (int i = 0; i < count; i++) items[i] = CStringGetTextDatum(texts[i]);
    ArrayType *array = construct_array(items, count, TEXTOID, -1, false, TYPALIGN_INT);
    return {TEXTARRAYOID, PointerGetDatum(array), false};
}

pg::Param NumberArray(const AttrNumber *numbers, int count) {
    Datum *items = static_cast<Datum *>(palloc(sizeof(Datum) * Max(count, 1)));
    for (int i = 0; i < count; i++) items[i] = Int16GetDatum(numbers[i]);
    ArrayType *array = construct_array(items, count, INT2OID, sizeof(int16), true, TYPALIGN_SHORT);
    return {INT2ARRAYOID, PointerGetDatum(array), false};
}

pg::Param OperationArray(const AuditOperations &operations) {
    const char *names[4];
    int count = 0;
    if (operations.insert) names[count++] = "insert";
    if (operations.update) names[count++] = "update";
    if (operations.del) names[count++] = "delete";
    if (operations.truncate) names[count++] = "truncate";
    return TextArray(names, count);
}

}  // namespace herald
