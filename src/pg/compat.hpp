// The only place that knows differences between PostgreSQL versions.

#pragma once

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "postmaster/bgworker.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/timeout.h"
}

#if PG_VERSION_NUM < 150000
#error "pg_herald needs PostgreSQL 15 or newer"
#endif

namespace herald::pg {

// The number of this process's PGPROC: an address of its latch that other processes can keep.
inline int OwnProcNumber() {
#if PG_VERSION_NUM >= 170000
    return MyProcNumber;
#else
    return MyProc->pgprocno;
#endif
}

inline bool HasDatabasePrivilege(Oid database, Oid role, AclMode mode) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(DatabaseRelationId, database, role, mode) == ACLCHECK_OK;
#else
    return pg_database_aclcheck(database, role, mode) == ACLCHECK_OK;
#endif
}

inline bool HasFunctionPrivilege(Oid function, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
    return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

inline bool HasSchemaUsage(Oid schema, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK;
#else
    return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

inline bool OwnsDatabase(Oid database, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, role);
#else
    return pg_database_ownercheck(database, role);
#endif
}

// True where a role without LOGIN cannot start a background worker.
inline constexpr bool kWorkersNeedLogin = PG_VERSION_NUM < 170000;

// Flags for BackgroundWorkerInitializeConnectionByOid of a handler's worker.
inline constexpr uint32 kWorkerConnectionFlags =
#if PG_VERSION_NUM >= 170000
    BGWORKER_BYPASS_ROLELOGINCHECK;
#else
    0;
#endif

}  // namespace herald::pg
