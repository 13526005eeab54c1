// See history.hpp. A row is found by the hash of its identity. First the chain of identities is followed
// back through the entries that changed the key: from each, those before that change belong to the row too.
// Each identity is looked for under all names that the key's columns have had.

#include "pg/pg.hpp"

#include "audit/history.hpp"

#include "audit/audited_tables.hpp"
#include "audit/given_key.hpp"
#include "audit/record_hash.hpp"
#include "audit/record_id.hpp"
#include "audit/segments.hpp"
#include "pg/as_owner.hpp"
#include "pg/spi.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
}

namespace herald {

namespace {

constexpr int kMaxIdentities = 10000;  // one that runs in circles ends there

// An identity that the row has had, and until when (the entry that changed it).
struct Identity {
    Jsonb *record_id;
    int64 hash;
    TimestampTz until;  // DT_NOEND: to this day
    int32 sequence;
};

struct Chain {
    MemoryContext context;
    int32 target_id;
    Identity *identities;
    int count;
    int room;
};

void AddIdentity(Chain *chain, const Jsonb *record_id, TimestampTz until, int32 sequence) {
    for (int i = 0; i < chain->count; i++)
        if (chain->identities[i].until >= until &&
            compareJsonbContainers(&chain->identities[i].record_id->root,
                                   const_cast<JsonbContainer *>(&record_id->root)) == 0)
            return;
    if (chain->count == kMaxIdentities)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the key of the row was changed too many times")));
    if (chain->count == chain->room) {
        chain->room *= 2;
        chain->identities =
            static_cast<Identity *>(repalloc(chain->identities, sizeof(Identity) * static_cast<Size>(chain->room)));
    }
    MemoryContext caller = MemoryContextSwitchTo(chain->context);
    Jsonb *copy = static_cast<Jsonb *>(palloc(VARSIZE(record_id)));
    std::memcpy(copy, record_id, VARSIZE(record_id));
    MemoryContextSwitchTo(caller);
    chain->identities[chain->count++] = {copy, RecordHash(chain->target_id, copy), until, sequence};
}

// The identity with every name that its columns have had, itself included.
void AddNames(Chain *chain, const Jsonb *record_id, TimestampTz until, int32 sequence) {
    AddIdentity(chain, record_id, until, sequence);
    const uint64 rows = pg::SpiRun(
        "WITH version AS (SELECT k.version, k.names, pg_catalog.sum(CASE WHEN k.renamed THEN 0 ELSE 1 END)"
        " OVER (ORDER BY k.version) AS columns FROM herald_internal.audit_key AS k WHERE k.target_id = $1),"
        " given AS (SELECT v.names, v.columns FROM version AS v"
        " WHERE pg_catalog.cardinality(v.names) = (SELECT count(*) FROM pg_catalog.jsonb_object_keys($2))"
        " AND $2 ?& v.names ORDER BY v.version DESC LIMIT 1)"
        " SELECT DISTINCT (SELECT pg_catalog.jsonb_object_agg(v.names[n], $2 -> g.names[n])"
        " FROM pg_catalog.generate_subscripts(g.names, 1) AS n)"
        " FROM given AS g JOIN version AS v USING (columns) WHERE v.names <> g.names",
        std::array{pg::Int4(chain->target_id), pg::Jsonb(PointerGetDatum(record_id), false)});
    for (uint64 i = 0; i < rows; i++)
        AddIdentity(chain, DatumGetJsonbP(pg::SpiField(i, 1, JSONBOID).value), until, sequence);
}

// "SELECT <columns> FROM audit_0 ... WHERE <condition> UNION ALL ..." over all segments.
char *OverSegments(const char *columns, const char *condition) {
    StringInfoData sql;
    initStringInfo(&sql);
    for (int i = 0; i < kAuditSegments; i++) {
        if (i > 0) appendStringInfoString(&sql, " UNION ALL ");
        appendStringInfo(&sql,
                         "SELECT %s FROM herald_internal.audit_%d AS e LEFT JOIN herald_internal.audit_context_%d AS c"
                         " ON c.id = e.context_id WHERE %s",
                         columns, i, i, condition);
    }
    return sql.data;
}

void FollowBack(Chain *chain) {
    const char *sql =
        OverSegments("e.old_record_id, e.changed_at, e.sequence",
                     "e.target_id = $1 AND e.record_hash = $2 AND e.record_id = $3 AND e.old_record_id IS NOT NULL"
                     " AND (e.changed_at, e.sequence) < ($4, $5)");
    for (int i = 0; i < chain->count; i++) {
        const Identity identity = chain->identities[i];
        const uint64 rows = pg::SpiRun(sql, std::array{pg::Int4(chain->target_id), pg::Int8(identity.hash),
                                                       pg::Jsonb(PointerGetDatum(identity.record_id), false),
                                                       pg::Time(identity.until), pg::Int4(identity.sequence)});
        SPITupleTable *found = SPI_tuptable;
        for (uint64 row = 0; row < rows; row++) {
            SPI_tuptable = found;
            const Jsonb *old = DatumGetJsonbP(pg::SpiField(row, 1, JSONBOID).value);
            const TimestampTz until = DatumGetTimestampTz(pg::SpiField(row, 2, TIMESTAMPTZOID).value);
            const int32 sequence = pg::SpiInt4(row, 3);
            AddNames(chain, old, until, sequence);
        }
    }
}

template <typename Item>
pg::Param ArrayParam(const Chain &chain, Oid type, Oid element, int16 length, bool by_value, char alignment,
                     Item item) {
    Datum *items = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(chain.count)));
    for (int i = 0; i < chain.count; i++) items[i] = item(chain.identities[i]);
    return {type, PointerGetDatum(construct_array(items, chain.count, element, length, by_value, alignment)), false};
}

// The columns of herald.audit_log; the name of the operation comes from there.
constexpr const char *kColumns =
    "e.id, c.transaction_id, e.sequence, e.changed_at, e.operation, e.schema_name, e.table_name,"
    " e.record_id, e.old_record_id, e.old, e.new, e.changed, c.session_user_name, c.current_user_name,"
    " c.application_name, c.client_address, c.client_port, c.statement, c.context";

// Returns how many entries there are.
uint64 Collect(const Chain &chain, Tuplestorestate *result, TupleDesc descriptor) {
    const char *sql = psprintf(
        "SELECT DISTINCT ON (f.changed_at, f.sequence, f.id) f.id, f.transaction_id, f.sequence,"
        " f.changed_at, CASE f.operation WHEN 'I' THEN 'insert' WHEN 'U' THEN 'update'"
        " WHEN 'D' THEN 'delete' END, f.schema_name, f.table_name, f.record_id, f.old_record_id, f.old,"
        " f.new, f.changed, f.session_user_name, f.current_user_name, f.application_name, f.client_address,"
        " f.client_port, f.statement, f.context"
        " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
        " pg_catalog.unnest($5)) AS i (hash, record_id, until, last)"
        " CROSS JOIN LATERAL (%s UNION ALL %s) AS f"
        " WHERE (f.changed_at, f.sequence) <= (i.until, i.last)"
        " ORDER BY f.changed_at, f.sequence, f.id",
        OverSegments(kColumns, "e.target_id = $1 AND e.record_hash = i.hash AND e.record_id = i.record_id"),
        OverSegments(kColumns, "e.target_id = $1 AND e.old_record_hash = i.hash AND e.old_record_id = i.record_id"));
    const uint64 rows = pg::SpiRun(
        sql, std::array{pg::Int4(chain.target_id),
                        ArrayParam(chain, INT8ARRAYOID, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
                                   [](const Identity &i) { return Int64GetDatum(i.hash); }),
                        ArrayParam(chain, JSONBARRAYOID, JSONBOID, -1, false, TYPALIGN_INT,
                                   [](const Identity &i) { return PointerGetDatum(i.record_id); }),
                        ArrayParam(chain, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID, sizeof(int64), FLOAT8PASSBYVAL,
                                   TYPALIGN_DOUBLE, [](const Identity &i) { return TimestampTzGetDatum(i.until); }),
                        ArrayParam(chain, INT4ARRAYOID, INT4OID, sizeof(int32), true, TYPALIGN_INT,
                                   [](const Identity &i) { return Int32GetDatum(i.sequence); })});
    const int columns = descriptor->natts;
    Datum *values = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(columns)));
    bool *nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<Size>(columns)));
    for (uint64 row = 0; row < rows; row++) {
        heap_deform_tuple(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, values, nulls);
        tuplestore_putvalues(result, descriptor, values, nulls);
    }
    return rows;
}

Chain StartChain(const StoredTarget *target) {
    return {CurrentMemoryContext, target->id, static_cast<Identity *>(palloc(sizeof(Identity) * 16)), 0, 16};
}

// Also one that is no longer audited.
const StoredTarget *RequireTarget(Oid relation, const StoredTarget *targets, int count) {
    const StoredTarget *target = FindEnrolled(relation, targets, count);
    for (int i = 0; target == nullptr && i < count; i++)
        if (targets[i].relation == relation) target = &targets[i];
    const char *name = get_rel_name(relation);
    if (name == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relation)));
    if (!pg::OwnsRelation(target == nullptr ? relation : target->relation, GetUserId()) && !MayReadAuditLog())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied for the history of table \"%s\"", name),
                        errhint("It is for the owner of the table and for who may SELECT from "
                                "herald.audit_log.")));
    if (target == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("table \"%s\" is not audited", name),
                        errhint("herald.audited_tables lists the tables that are.")));
    return target;
}

}  // namespace

void CollectHistory(Oid relation, const Jsonb *given, Tuplestorestate *result, TupleDesc descriptor) {
    int count;
    const StoredTarget *targets = ReadStoredTargets(&count);
    const StoredTarget *target = RequireTarget(relation, targets, count);
    Chain chain = StartChain(target);
    const Jsonb *record_id = RecordedForm(target->relation, given);
    GivenKey key;
    const uint64 entries = pg::AsOwner([&] {
        key = RequireKey(target->id, get_rel_name(relation), record_id, chain.context);
        AddNames(&chain, record_id, DT_NOEND, PG_INT32_MAX);
        for (bool as_text : {true, false}) AddNames(&chain, InOtherTypes(record_id, as_text), DT_NOEND, PG_INT32_MAX);
        FollowBack(&chain);
        return Collect(chain, result, descriptor);
    });
    if (entries > 0) return;

    const Jsonb *converted = InColumnTypes(target->relation, key, record_id);
    if (converted == nullptr) return;
    chain = StartChain(target);
    pg::AsOwner([&] {
        AddNames(&chain, converted, DT_NOEND, PG_INT32_MAX);
        FollowBack(&chain);
        (void)Collect(chain, result, descriptor);
    });
}

}  // namespace herald
