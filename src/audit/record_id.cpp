// See record_id.hpp.

#include "pg/pg.hpp"

#include "audit/record_id.hpp"

#include "pg/pinned_settings.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
}

namespace herald {

namespace {

// "(a, b)" for the names of a row of audit_key.
const char *NamesOf(uint64 row) { return psprintf("(%s)", pg::SpiText(row, 2)); }

// Names no key: says which there are, the newest first.
[[noreturn]] void RefuseRecordId(const char *table, uint64 rows) {
    const char *newest = NamesOf(0);
    StringInfoData older;
    initStringInfo(&older);
    for (uint64 row = 1; row < rows; row++) {
        const char *names = NamesOf(row);
        if (std::strcmp(names, newest) == 0 || std::strstr(older.data, names) != nullptr) continue;
        appendStringInfo(&older, "%s%s", older.len == 0 ? "" : ", ", names);
    }
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("record_id does not name the key of table \"%s\"", table),
             older.len == 0 ? errdetail("The key is %s.", newest)
                            : errdetail("The key is %s; it was %s.", newest, older.data),
             errhint("Give a JSON object with these columns and no others.")));
    pg_unreachable();
}

}  // namespace

GivenKey RequireKey(int32 target_id, const char *table, const Jsonb *record_id, MemoryContext context) {
    const uint64 rows = pg::SpiRun(
        "SELECT CASE WHEN pg_catalog.jsonb_typeof($2) = 'object' THEN"
        " pg_catalog.cardinality(k.names) = (SELECT count(*) FROM pg_catalog.jsonb_object_keys($2)) AND $2 ?& k.names"
        " ELSE false END, pg_catalog.array_to_string(k.names, ', '), k.names, k.numbers"
        " FROM herald_internal.audit_key AS k WHERE k.target_id = $1 ORDER BY k.version DESC",
        std::array{pg::Int4(target_id), pg::Jsonb(PointerGetDatum(record_id), false)});
    if (rows == 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("table \"%s\" has no key", table),
                 errdetail("Its entries have no record_id."), errhint("Look for its rows in herald.audit_log.")));
    uint64 row = 0;
    while (row < rows && !pg::SpiBool(row, 1)) row++;
    if (row == rows) RefuseRecordId(table, rows);

    GivenKey key{};
    Datum *names, *numbers;
    MemoryContext spi = MemoryContextSwitchTo(context);
    deconstruct_array(DatumGetArrayTypeP(pg::SpiField(row, 3, TEXTARRAYOID).value), TEXTOID, -1, false, TYPALIGN_INT,
                      &names, nullptr, &key.count);
    deconstruct_array(DatumGetArrayTypeP(pg::SpiField(row, 4, INT2ARRAYOID).value), INT2OID, sizeof(int16), true,
                      TYPALIGN_SHORT, &numbers, nullptr, &key.count);
    for (int i = 0; i < key.count; i++) {
        key.names[i] = TextDatumGetCString(names[i]);
        key.numbers[i] = DatumGetInt16(numbers[i]);
        JsonbValue value;
        getKeyJsonValueFromContainer(const_cast<JsonbContainer *>(&record_id->root), key.names[i],
                                     static_cast<int>(std::strlen(key.names[i])), &value);
        if (value.type == jbvNull)
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                            errmsg("record_id has null for column \"%s\" of a key", key.names[i])));
    }
    MemoryContextSwitchTo(spi);
    return key;
}

Jsonb *InOtherTypes(const Jsonb *record_id, bool as_text) {
    (void)pg::SpiRun(
        as_text ? "SELECT pg_catalog.jsonb_object_agg(m.key, pg_catalog.to_jsonb(m.value))"
                  " FROM pg_catalog.jsonb_each_text($1) AS m"
                : "SELECT pg_catalog.jsonb_object_agg(m.key, CASE WHEN pg_catalog.jsonb_typeof(m.value) = 'string'"
                  " AND m.value #>> '{}' ~ '^(0|-?[1-9][0-9]{0,37})$' THEN (m.value #>> '{}')::jsonb ELSE m.value END)"
                  " FROM pg_catalog.jsonb_each($1) AS m",
        std::array{pg::Jsonb(PointerGetDatum(record_id), false)});
    return DatumGetJsonbP(pg::SpiField(0, 1, JSONBOID).value);
}

Jsonb *InColumnTypes(Oid relation, const GivenKey &key, const Jsonb *record_id) {
    MemoryContext context = CurrentMemoryContext;
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, "SELECT pg_catalog.jsonb_build_object(");
    for (int i = 0; i < key.count; i++) {
        Oid type, collation;
        int32 modifier;
        if (get_attname(relation, key.numbers[i], true) == nullptr) return nullptr;
        get_atttypetypmodcoll(relation, key.numbers[i], &type, &modifier, &collation);
        if (!OidIsValid(type)) return nullptr;
        const char *name = quote_literal_cstr(key.names[i]);
        appendStringInfo(&sql, "%s%s, pg_catalog.to_jsonb(CAST(pg_catalog.jsonb_object_field_text($1, %s) AS %s))",
                         i == 0 ? "" : ", ", name, name,
                         format_type_extended(type, modifier, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
    }
    appendStringInfoChar(&sql, ')');
    // As the caller, but under a search_path that decides nothing.
    const int settings_level = NewGUCNestLevel();
    (void)set_config_option("search_path", pg::kSafeSearchPath, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                            false);
    pg::SpiBegin();
    (void)pg::SpiRun(sql.data, std::array{pg::Jsonb(PointerGetDatum(record_id), false)});
    MemoryContext spi = MemoryContextSwitchTo(context);
    Jsonb *result = DatumGetJsonbPCopy(pg::SpiField(0, 1, JSONBOID).value);
    MemoryContextSwitchTo(spi);
    pg::SpiEnd();
    AtEOXact_GUC(false, settings_level);
    return result;
}

}  // namespace herald
