// See extension.hpp. One relcache callback serves both: our oids and the caches of the features,
// because a change of channels is announced as a relcache invalidation of channel_store.

#include "pg/epoch.hpp"
#include "pg/extension.hpp"

#include "pg/table_form.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/dependency.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace herald::pg {

namespace {

constexpr char kSchema[] = "herald";
constexpr char kInternalSchema[] = "herald_internal";

ExtensionTables tables;
Epoch epoch;
Stamp tables_stamp = {};  // of `tables`

constexpr int kMaxListeners = 8;
void (*listeners[kMaxListeners])();
int listener_count = 0;

void OnRelationChange(Datum, Oid relation) {
    ForgetTable(relation);
    // While the oids are unknown any relation may be one of ours.
    bool ours = !TablesKnown() || relation == InvalidOid || relation == tables.channel_store;
    for (int i = 0; i < kSegments; i++) ours = ours || relation == tables.log[i] || relation == tables.settled[i];
    if (!ours) return;
    epoch.End();
    for (int i = 0; i < listener_count; i++) listeners[i]();
}

Oid Lookup(const char *name) {
    Oid oid = get_relname_relid(name, tables.internal);
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("extension \"pg_herald\" lacks its relation \"herald_internal.%s\"", name),
                        errhint("Run ALTER EXTENSION pg_herald UPDATE, or create the extension again.")));
    return oid;
}

Oid OwnSchema(const char *name) {
    const Oid extension = get_extension_oid("pg_herald", true);
    const Oid schema = OidIsValid(extension) ? get_namespace_oid(name, true) : InvalidOid;
    if (!OidIsValid(schema) || getExtensionOfObject(NamespaceRelationId, schema) != extension) return InvalidOid;
    return schema;
}

Oid RequireSchema(const char *name) {
    const Oid schema = OwnSchema(name);
    if (!OidIsValid(schema))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension \"pg_herald\" has no schema \"%s\"", name),
                        errdetail("If there is one of that name, it is not the one that the extension made."),
                        errhint("Give its schema that name again, by ALTER SCHEMA ... RENAME TO %s.", name)));
    return schema;
}

}  // namespace

bool ExtensionExists() { return OidIsValid(get_extension_oid("pg_herald", true)); }

// The commit of a DROP wakes others before it sends invalidations, and from PostgreSQL 18 on get_extension_oid() asks a
// cache that waits for them. So the catalog itself is read.
Oid CommittedExtension() {
    Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("pg_herald"));
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    SysScanDesc scan = systable_beginscan(catalog, ExtensionNameIndexId, true, snapshot, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    const Oid extension =
        HeapTupleIsValid(tuple) ? reinterpret_cast<Form_pg_extension>(GETSTRUCT(tuple))->oid : InvalidOid;
    systable_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(catalog, AccessShareLock);
    return extension;
}

Oid InternalSchema() { return OwnSchema(kInternalSchema); }

bool TablesKnown() { return epoch.Is(tables_stamp); }

const ExtensionTables &Tables() {
    if (TablesKnown()) return tables;

    const Stamp begun = epoch.Now();
    tables.extension = get_extension_oid("pg_herald", true);
    if (!OidIsValid(tables.extension))
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension \"pg_herald\" does not exist in this database"),
                 errhint("Run CREATE EXTENSION pg_herald.")));
    tables.schema = RequireSchema(kSchema);
    tables.internal = RequireSchema(kInternalSchema);
    for (int i = 0; i < kSegments; i++) {
        char name[NAMEDATALEN];
        snprintf(name, sizeof(name), "log_%d", i);
        tables.log[i] = Lookup(name);
        snprintf(name, sizeof(name), "settled_%d", i);
        tables.settled[i] = Lookup(name);
    }
    tables.id_store = Lookup("id_store");
    tables.channel_store = Lookup("channel_store");
    tables.parked_store = Lookup("parked_store");
    tables.task_type =
        GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("task"), ObjectIdGetDatum(tables.schema));
    tables_stamp = begun;
    return tables;
}

void RequireExtension(Oid extension) {
    LockRelationOid(Tables().channel_store, AccessShareLock);
    if (get_extension_oid("pg_herald", true) == extension) return;
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension \"pg_herald\" was dropped while a task ran"),
                    errdetail("The task's effects are rolled back.")));
}

void InitExtensionCache() { CacheRegisterRelcacheCallback(OnRelationChange, static_cast<Datum>(0)); }

void InvalidateCatalogCaches() { CacheInvalidateRelcacheByRelid(Tables().channel_store); }

void OnCatalogChange(void (*forget)()) {
    if (listener_count == kMaxListeners) elog(ERROR, "too many catalog listeners");
    listeners[listener_count++] = forget;
}

}  // namespace herald::pg
