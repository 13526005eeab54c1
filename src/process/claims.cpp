// See claims.hpp.
//
// A claim ends with the (sub)transaction that made it: at commit and abort, at the rollback of a savepoint, and
// at PREPARE. The prepared transaction keeps its lock on the database, so that nobody can connect before it
// is decided; the launcher sees that lock and waits with its starts (see launcher.cpp). A session that ends in the
// midst of a transaction aborts it first.

#include "process/claims.hpp"

#include "pg/transaction_list.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
}

namespace herald {

namespace {

// How long a command waits for our processes to leave, before it sees for itself who is there.
constexpr int kLeavePatience = 3000;  // milliseconds

struct Claim {
    DatabaseShared *database;
    SubTransactionId subtransaction;
};

pg::TransactionList<Claim> claims;
bool databases_changed = false;

bool MayCreateDatabases() {
    if (superuser()) return true;
    HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
    if (!HeapTupleIsValid(tuple)) return false;
    const bool may = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple))->rolcreatedb;
    ReleaseSysCache(tuple);
    return may;
}

const char *NameInOption(const List *options, const char *option_name) {
    ListCell *cell;
    const char *value = nullptr;
    foreach (cell, options) {
        DefElem *option = static_cast<DefElem *>(lfirst(cell));
        if (std::strcmp(option->defname, option_name) == 0 && option->arg != nullptr) value = defGetString(option);
    }
    return value;
}

// Finds most statements that will be refused; their own checks do the rest.
const char *NameOfWanted(Node *statement, bool is_top_level) {
    // All but RENAME are refused within a transaction.
    if (nodeTag(statement) != T_RenameStmt && IsInTransactionBlock(is_top_level)) return nullptr;
    switch (nodeTag(statement)) {
        case T_DropdbStmt:
            return castNode(DropdbStmt, statement)->dbname;
        case T_RenameStmt: {
            const RenameStmt *rename = castNode(RenameStmt, statement);
            if (!MayCreateDatabases() || OidIsValid(get_database_oid(rename->newname, true))) return nullptr;
            return rename->subname;
        }
        case T_CreatedbStmt: {
            const CreatedbStmt *create = castNode(CreatedbStmt, statement);
            if (!MayCreateDatabases() || OidIsValid(get_database_oid(create->dbname, true))) return nullptr;
            return NameInOption(create->options, "template");
        }
        case T_AlterDatabaseStmt: {
            const AlterDatabaseStmt *alter = castNode(AlterDatabaseStmt, statement);
            return NameInOption(alter->options, "tablespace") == nullptr ? nullptr : alter->dbname;
        }
        default:
            return nullptr;
    }
}

void WaitUntilLeft(DatabaseShared *database) {
    for (int waited = 0; waited < kLeavePatience; waited += 10) {
        bool left = true;
        for (int i = 0; i < kConsumers; i++) left = left && !ConsumerRuns(database, static_cast<Consumer>(i));
        for (int i = 0; i < WorkerSlotLimit(); i++) {
            WorkerSlotShared *slot = WorkerSlot(i);
            SlotState state = StateOf(slot);
            // A busy worker may finish its task; the command waits for it, or ends it, on its own.
            if (slot->database == database->database &&
                (state == SlotState::kIdle || state == SlotState::kLeaving || state == SlotState::kStarting))
                left = false;
        }
        if (left) return;
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

void GiveUp(const Claim &claim) {
    pg_atomic_fetch_sub_u32(&claim.database->processes.leave_requests, 1);
    WakeLauncher();
}

void EndClaims() {
    for (const Claim &claim : claims) GiveUp(claim);
    claims.Forget();
    if (databases_changed) WakeLauncher();
    databases_changed = false;
}

void KeepSub(SubTransactionId own, SubTransactionId parent) { claims.KeepSub(own, parent); }

void DropSub(SubTransactionId own) { claims.DropSub(own, GiveUp); }

}  // namespace

const pg::TransactionPart kClaimsPart = {.before_commit = pg::NoEnd,
                                         .before_prepare = pg::NoEnd,
                                         .committed = EndClaims,
                                         .prepared = EndClaims,
                                         .aborted = EndClaims,
                                         .sub_committed = KeepSub,
                                         .sub_aborted = DropSub};

Oid DatabaseToLeave(Node *statement, bool is_top_level) {
    if (nodeTag(statement) == T_RenameStmt && castNode(RenameStmt, statement)->renameType != OBJECT_DATABASE)
        return InvalidOid;
    const char *name = NameOfWanted(statement, is_top_level);
    if (name == nullptr) return InvalidOid;
    Oid database = get_database_oid(name, true);
    if (!OidIsValid(database) || !pg::OwnsDatabase(database, GetUserId())) return InvalidOid;
    // The own database can't be dropped or renamed, only copied.
    if (database == MyDatabaseId && nodeTag(statement) != T_CreatedbStmt) return InvalidOid;
    return database;
}

void ClaimDatabase(DatabaseShared *database) {
    for (const Claim &claim : claims)
        if (claim.database == database) return;
    (void)claims.Add({database, GetCurrentSubTransactionId()});
    pg_atomic_fetch_add_u32(&database->processes.leave_requests, 1);
    for (int i = 0; i < kConsumers; i++) WakeConsumer(database, static_cast<Consumer>(i));
    EvictIdleWorkers(database->database);
    WaitUntilLeft(database);
}

void NoteDatabaseChange() { databases_changed = true; }

}  // namespace herald
