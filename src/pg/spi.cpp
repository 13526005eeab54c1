// See spi.hpp.

#include "pg/spi.hpp"

#include "pg/pinned_settings.hpp"
#include "pg/table_form.hpp"
#include "pg/table_trust.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
}

namespace herald::pg {

Param Int4(int32 value) { return {INT4OID, Int32GetDatum(value), false}; }
Param Int8(int64 value) { return {INT8OID, Int64GetDatum(value), false}; }
Param Bool(bool value) { return {BOOLOID, BoolGetDatum(value), false}; }
Param Float8(double value) { return {FLOAT8OID, Float8GetDatum(value), false}; }

Param Text(const char *value) {
    if (value == nullptr) return {TEXTOID, static_cast<Datum>(0), true};
    return {TEXTOID, CStringGetTextDatum(value), false};
}

Param TextDatum(Datum value, bool is_null) { return {TEXTOID, value, is_null}; }
Param Jsonb(Datum value, bool is_null) { return {JSONBOID, value, is_null}; }

Param ObjectId(Oid value) { return {OIDOID, ObjectIdGetDatum(value), false}; }

Param Time(TimestampTz value) { return {TIMESTAMPTZOID, TimestampTzGetDatum(value), value == DT_NOBEGIN}; }

Param IntervalDatum(Datum value, bool is_null) { return {INTERVALOID, value, is_null}; }

Param Int8Array(const int64 *values, int count) {
    Datum *items = static_cast<Datum *>(palloc(sizeof(Datum) * Max(count, 1)));
    for (int i = 0; i < count; i++) items[i] = Int64GetDatum(values[i]);
    ArrayType *array = construct_array(items, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
    return {INT8ARRAYOID, PointerGetDatum(array), false};
}

void SpiBegin() {
    if (SPI_connect() != SPI_OK_CONNECT) elog(ERROR, "SPI_connect failed");
}

void ReadWithoutIndexes() {
    auto set = [](const char *name, const char *value) {
        (void)set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    };
    set("enable_seqscan", "on");
    set("enable_indexscan", "off");
    set("enable_indexonlyscan", "off");
    set("enable_bitmapscan", "off");
}

void SpiEnd() {
    if (SPI_finish() != SPI_OK_FINISH) elog(ERROR, "SPI_finish failed");
}

void RequireSafePath() {
    if (std::strcmp(namespace_search_path, kSafeSearchPath) != 0)
        elog(ERROR, "an internal statement was to be run under search_path \"%s\"", namespace_search_path);
}

namespace {

// Our statements name columns and keys as the script made them.
void HintAtMisfit(void *) {
    switch (geterrcode()) {
        case ERRCODE_UNDEFINED_COLUMN:
        case ERRCODE_UNDEFINED_FUNCTION:
        case ERRCODE_DATATYPE_MISMATCH:
        case ERRCODE_INVALID_COLUMN_REFERENCE:
            errhint("%s", kMisfitHint);
            break;
        default:
            break;
    }
}

}  // namespace

uint64 SpiRunWith(const char *sql, const Param *params, int count, long limit, SPIPlanPtr *plan) {
    Oid types[kMaxParams];
    Datum values[kMaxParams];
    char nulls[kMaxParams];

    RequireSafePath();
    Assert(count <= kMaxParams);
    for (int i = 0; i < count; i++) {
        types[i] = params[i].type;
        values[i] = params[i].value;
        nulls[i] = params[i].is_null ? 'n' : ' ';
    }
    // A worker's transaction has no snapshot of its own yet when it comes here first.
    bool pushed = false;
    if (!ActiveSnapshotSet()) {
        PushActiveSnapshot(GetTransactionSnapshot());
        pushed = true;
    }
    BeginOwnStatement();
    ErrorContextCallback hint = {error_context_stack, HintAtMisfit, nullptr};
    error_context_stack = &hint;
    if (plan != nullptr && *plan == nullptr) {
        SPIPlanPtr prepared = SPI_prepare(sql, count, types);
        if (prepared == nullptr || SPI_keepplan(prepared) != 0)
            elog(ERROR, "could not prepare an internal statement: %s", SPI_result_code_string(SPI_result));
        *plan = prepared;
    }
    int code = plan != nullptr ? SPI_execute_plan(*plan, values, nulls, false, limit)
                               : SPI_execute_with_args(sql, count, types, values, nulls, false, limit);
    EndOwnStatement();
    error_context_stack = hint.previous;
    if (pushed) PopActiveSnapshot();
    if (code == SPI_OK_REWRITTEN) ReportRewritten(sql);
    if (code < 0)
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
                        errmsg("could not run an internal statement: %s", SPI_result_code_string(code)),
                        errdetail("The statement is: %s", sql)));
    return SPI_processed;
}

Portal SpiOpenCursor(const char *sql, Param param) {
    RequireSafePath();
    BeginOwnStatement();
    ErrorContextCallback hint = {error_context_stack, HintAtMisfit, nullptr};
    error_context_stack = &hint;
    const char nulls = param.is_null ? 'n' : ' ';
    Portal portal = SPI_cursor_open_with_args(nullptr, sql, 1, &param.type, &param.value, &nulls, true, 0);
    error_context_stack = hint.previous;
    EndOwnStatement();
    return portal;
}

// Errors put the stack of contexts back, as they would not a counter.
bool InOwnStatement() {
    for (const ErrorContextCallback *each = error_context_stack; each != nullptr; each = each->previous)
        if (each->callback == HintAtMisfit) return true;
    return false;
}

uint64 SpiRun(const char *sql, long limit) { return SpiRunWith(sql, nullptr, 0, limit, nullptr); }

namespace {

// A rule or trigger of an administrator may have let a statement return nothing.
void RequireRow(uint64 row) {
    if (SPI_tuptable != nullptr && row < SPI_tuptable->numvals) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("a statement on a table of pg_herald returned no row"), errhint("%s", kMisfitHint)));
}

// A column that an administrator has given another type would be read as what it is not.
void RequireType(int column, Oid type) {
    const Oid there = SPI_gettypeid(SPI_tuptable->tupdesc, column);
    if (there == type) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("column \"%s\" of a table of pg_herald is of type %s instead of %s",
                           SPI_fname(SPI_tuptable->tupdesc, column), format_type_be(there), format_type_be(type)),
                    errhint("%s", kMisfitHint)));
}

}  // namespace

Field SpiField(uint64 row, int column, Oid type) {
    Field field;
    RequireRow(row);
    RequireType(column, type);
    field.value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &field.is_null);
    return field;
}

int32 SpiInt4(uint64 row, int column, int32 when_null) {
    Field field = SpiField(row, column, INT4OID);
    return field.is_null ? when_null : DatumGetInt32(field.value);
}

int64 SpiInt8(uint64 row, int column, int64 when_null) {
    Field field = SpiField(row, column, INT8OID);
    return field.is_null ? when_null : DatumGetInt64(field.value);
}

bool SpiBool(uint64 row, int column, bool when_null) {
    Field field = SpiField(row, column, BOOLOID);
    return field.is_null ? when_null : DatumGetBool(field.value);
}

double SpiFloat8(uint64 row, int column, double when_null) {
    Field field = SpiField(row, column, FLOAT8OID);
    return field.is_null ? when_null : DatumGetFloat8(field.value);
}

char *SpiText(uint64 row, int column) {
    RequireRow(row);
    return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

}  // namespace herald::pg
