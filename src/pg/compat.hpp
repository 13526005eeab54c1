// The only place that knows differences between PostgreSQL versions.

#pragma once

extern "C" {
#include "nodes/plannodes.h"
#include "commands/async.h"
#include "commands/tablecmds.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "postmaster/bgworker.h"
#include "replication/origin.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/tuplestore.h"
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

inline bool OwnsRelation(Oid relation, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(RelationRelationId, relation, role);
#else
    return pg_class_ownercheck(relation, role);
#endif
}

// Lets go what an index keeps between two insertions. From 17 on the caller of index_insert has to.
inline void FinishIndexInserts(Relation index, struct IndexInfo *info) {
#if PG_VERSION_NUM >= 170000
    index_insert_cleanup(index, info);
#else
    (void)index;
    (void)info;
#endif
}

// TRUNCATE of open tables, of which logical decoding learns nothing.
inline void TruncateWithoutDecoding(List *relations, List *oids) {
#if PG_VERSION_NUM >= 160000
    ExecuteTruncateGuts(relations, oids, NIL, DROP_RESTRICT, false, false);
#else
    ExecuteTruncateGuts(relations, oids, NIL, DROP_RESTRICT, false);
#endif
}

// True where the statement writes to the relation of that number in its range table.
inline bool IsResultRelation(const PlannedStmt *statement, int number) {
#if PG_VERSION_NUM >= 190000
    return bms_is_member(number, statement->resultRelationRelids);
#else
    return list_member_int(statement->resultRelations, number);
#endif
}

// True where the session repeats what was done elsewhere.
inline bool HasReplicationOrigin() {
#if PG_VERSION_NUM >= 190000
    return replorigin_xact_state.origin != InvalidReplOriginId;
#else
    return replorigin_session_origin != InvalidRepOriginId;
#endif
}

// The type of a syscache's number in callbacks.
#if PG_VERSION_NUM >= 190000
using SyscacheNumber = SysCacheIdentifier;
#else
using SyscacheNumber = int;
#endif

// Both are macros or casts that differ: a handler takes two parameters from 19 on.
inline void IgnoreSignal(int signal_number) {
#if PG_VERSION_NUM >= 190000
    pqsignal(signal_number, PG_SIG_IGN);
#else
    pqsignal(signal_number, SIG_IGN);
#endif
}

// The arguments of a signal handler, to be handed on to one of the server's.
#if PG_VERSION_NUM >= 190000
#define HERALD_SIGNAL_ARGUMENTS postgres_signal_arg, pg_siginfo
#else
#define HERALD_SIGNAL_ARGUMENTS postgres_signal_arg
#endif

// All settings that the server knows.
inline struct config_generic **ListSettings(int *count) {
#if PG_VERSION_NUM >= 160000
    return get_guc_variables(count);
#else
    *count = GetNumConfigOptions();
    return get_guc_variables();
#endif
}

// A sequential scan from the first block on, whatever other scans are under way.
inline TableScanDesc BeginTableScan(Relation relation, Snapshot snapshot) {
    return table_beginscan_strat(relation, snapshot, 0, nullptr, true, false);
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

// True where this process holds the lock in exclusive mode. Never an error.
inline bool HoldsExclusively(const LOCKTAG &tag) {
#if PG_VERSION_NUM >= 170000
    return LockHeldByMe(&tag, ExclusiveLock, false);
#else
    return LockHeldByMe(&tag, ExclusiveLock);
#endif
}

// Puts the notifications of the transaction so far into NOTIFY's queue, where the commit will make them
// visible, and forgets that it has them: later ones are not compared with them. More must follow in the
// transaction, as its last ones make it wake the LISTENers. False where that can't be done: from 19 on
// LISTENers are woken by the channels of the last ones only.
inline bool QueueNotifications() {
#if PG_VERSION_NUM < 190000
    PreCommit_Notify();
    AtAbort_Notify();
    return true;
#else
    return false;
#endif
}

}  // namespace herald::pg
