// The extension as installed in this database: is it there, and what are the oids of its tables.
// Oids are looked up once and forgotten when one of the tables changes or goes.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

inline constexpr int kSegments = 3;

struct ExtensionTables {
    Oid extension;
    Oid schema;    // herald: what people use
    Oid internal;  // herald_internal: everything else
    Oid log[kSegments];
    Oid settled[kSegments];
    Oid id_store;
    Oid channel_store;
    Oid parked_store;
    Oid task_type;  // the composite herald.task
};

// True where the extension exists in this database. Needs a transaction.
bool ExtensionExists();

// The schema herald_internal that the extension made; InvalidOid where there is none, or one that others made. Needs a
// transaction.
Oid InternalSchema();

// The extension's oid as it is committed by now; InvalidOid where there is none. Needs a transaction.
Oid CommittedExtension();

// True where the oids are known already, so that it surely exists.
bool TablesKnown();

// Raises an ERROR unless the extension is still the one of that oid, and keeps it from being dropped until
// the transaction ends.
void RequireExtension(Oid extension);

// The oids; an ERROR 42704 with a hint where the extension is not there. Needs a transaction.
const ExtensionTables &Tables();

// True for the two schemas of the extension.
inline bool IsOwnSchema(Oid schema) { return schema == Tables().schema || schema == Tables().internal; }

// Called once per process, from _PG_init.
void InitExtensionCache();

// Forgets the cached plans and oids of the catalogs in all sessions, at commit: call it after a
// change of channels, grants or subscriptions.
void InvalidateCatalogCaches();

// Registers a callback (in this process) for such a change. At most eight.
void OnCatalogChange(void (*forget)());

}  // namespace herald::pg
