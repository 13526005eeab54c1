// See commands.hpp.

#include "worker/commands.hpp"

#include "outbox/outbox.hpp"
#include "outbox/prepared.hpp"
#include "pg/extension.hpp"
#include "pg/pg.hpp"
#include "stats/subscription_counters.hpp"
#include "worker/session.hpp"
#include "worker/slots.hpp"

extern "C" {
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "commands/defrem.h"
}

namespace herald {

namespace {

ProcessUtility_hook_type previous_hook = nullptr;

// How long a command waits for our processes to leave, before it sees for itself who is there.
constexpr int kLeavePatience = 3000;  // milliseconds

// The database that the statement needs for itself, or InvalidOid.
Oid DatabaseToLeave(Node *statement) {
    const char *name = nullptr;
    switch (nodeTag(statement)) {
        case T_DropdbStmt:
            name = castNode(DropdbStmt, statement)->dbname;
            break;
        case T_RenameStmt:
            if (castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
                name = castNode(RenameStmt, statement)->subname;
            break;
        case T_CreatedbStmt: {
            ListCell *cell;
            foreach (cell, castNode(CreatedbStmt, statement)->options) {
                DefElem *option = static_cast<DefElem *>(lfirst(cell));
                if (std::strcmp(option->defname, "template") == 0 && option->arg != nullptr)
                    name = defGetString(option);
            }
            break;
        }
        case T_AlterDatabaseStmt: {
            AlterDatabaseStmt *alter = castNode(AlterDatabaseStmt, statement);
            ListCell *cell;
            foreach (cell, alter->options)
                if (std::strcmp(static_cast<DefElem *>(lfirst(cell))->defname, "tablespace") == 0)
                    name = alter->dbname;
            break;
        }
        default:
            break;
    }
    if (name == nullptr) return InvalidOid;
    Oid database = get_database_oid(name, true);
    // Who may not do it anyway must not be able to send our processes away.
    if (!OidIsValid(database) || !pg::OwnsDatabase(database, GetUserId())) return InvalidOid;
    return database;
}

// The statement may end the extension.
bool MayDropExtension(Node *statement) {
    switch (nodeTag(statement)) {
        case T_DropStmt: {
            ObjectType type = castNode(DropStmt, statement)->removeType;
            return type == OBJECT_EXTENSION || type == OBJECT_SCHEMA;
        }
        case T_DropOwnedStmt:
            return true;
        default:
            return false;
    }
}

// The statement has changed what our processes of this database work on, without a function of ours: the extension
// itself, or rows that a dump brings back.
bool HasChangedOurs(Node *statement) {
    if (nodeTag(statement) == T_AlterExtensionStmt)
        return std::strcmp(castNode(AlterExtensionStmt, statement)->extname, "pg_herald") == 0;
    if (nodeTag(statement) != T_CopyStmt) return false;
    const CopyStmt *copy = castNode(CopyStmt, statement);
    if (!copy->is_from || copy->relation == nullptr || !pg::ExtensionExists()) return false;
    const Oid table = RangeVarGetRelid(copy->relation, NoLock, true);
    return OidIsValid(table) &&
           getExtensionOfObject(RelationRelationId, table) == get_extension_oid("pg_herald", true);
}

bool ChangesDatabases(Node *statement) {
    switch (nodeTag(statement)) {
        case T_CreatedbStmt:
        case T_DropdbStmt:
        case T_AlterDatabaseStmt:
            return true;
        case T_RenameStmt:
            return castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE;
        default:
            return false;
    }
}

void NoteExtensionChange() {
    RaiseFlagAtCommit(kFlagReload | kFlagReloadAnnouncer);
    LookForExtensionAtCommit();
}

void WaitUntilLeft(DatabaseShared *database) {
    for (int waited = 0; waited < kLeavePatience; waited += 10) {
        bool left = true;
        for (int i = 0; i < kConsumers; i++)
            left = left && !ConsumerRuns(database, static_cast<Consumer>(i));
        for (int i = 0; i < WorkerSlotLimit(); i++) {
            WorkerSlotShared *slot = WorkerSlot(i);
            SlotState state = StateOf(slot);
            // A busy worker may finish its task; the command waits for it, or ends it, on its own.
            if (slot->database == database->database &&
                (state == SlotState::kIdle || state == SlotState::kLeaving ||
                 state == SlotState::kStarting))
                left = false;
        }
        if (left) return;
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

// The arguments of the hook, so that they can be handed on as one.
struct Command {
    PlannedStmt *statement;
    const char *query;
    bool read_only_tree;
    ProcessUtilityContext context;
    ParamListInfo params;
    QueryEnvironment *environment;
    DestReceiver *receiver;
    QueryCompletion *completion;
};

void Execute(const Command &command) {
    auto next = previous_hook != nullptr ? previous_hook : standard_ProcessUtility;
    next(command.statement, command.query, command.read_only_tree, command.context, command.params,
         command.environment, command.receiver, command.completion);
}

// The database this transaction wants for itself, until it ends: only then is it clear whether the database
// still exists. The end comes in any case, also when the process is terminated.
DatabaseShared *claimed_database = nullptr;

// A command changed which databases there are, or who may connect.
bool databases_changed = false;

void OnTransactionEnd(XactEvent event, void *) {
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT) return;
    if (claimed_database != nullptr) pg_atomic_fetch_sub_u32(&claimed_database->leave_requests, 1);
    if (claimed_database != nullptr || databases_changed) WakeLauncher();
    claimed_database = nullptr;
    databases_changed = false;
}

// Has none of our processes in the database, nor any started there, until the transaction ends.
void ClaimDatabase(DatabaseShared *database) {
    if (claimed_database != nullptr) return;
    claimed_database = database;
    pg_atomic_fetch_add_u32(&database->leave_requests, 1);
    for (int i = 0; i < kConsumers; i++) WakeConsumer(database, static_cast<Consumer>(i));
    EvictIdleWorkers(database->database);
    WaitUntilLeft(database);
}

void OnCommand(PlannedStmt *statement, const char *query, bool read_only_tree,
               ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
               DestReceiver *receiver, QueryCompletion *completion) {
    const Command command = {statement, query,       read_only_tree, context,
                             params,    environment, receiver,       completion};
    Node *node = statement->utilityStmt;

    Oid wanted = DatabaseToLeave(node);
    DatabaseShared *database = OidIsValid(wanted) ? FindDatabase(wanted) : nullptr;
    if (database != nullptr) ClaimDatabase(database);
    databases_changed = databases_changed || ChangesDatabases(node);
    bool two_phase = nodeTag(node) == T_TransactionStmt &&
                     (castNode(TransactionStmt, node)->kind == TRANS_STMT_COMMIT_PREPARED ||
                      castNode(TransactionStmt, node)->kind == TRANS_STMT_ROLLBACK_PREPARED);
    if (nodeTag(node) == T_ConstraintsSetStmt) NoteSetConstraints();
    const bool creates = nodeTag(node) == T_CreateExtensionStmt && !pg::ExtensionExists();
    const bool may_drop = MayDropExtension(node) && pg::ExtensionExists();
    Execute(command);
    // Only what has happened: what is refused, or happens to others, is nothing to look at.
    if ((may_drop && !pg::ExtensionExists()) || HasChangedOurs(node)) {
        NoteExtensionChange();
        RaiseFlagAtCommit(kFlagRescan);
    }
    // By name or by CASCADE.
    if (creates && pg::ExtensionExists()) {
        // Of an earlier one, whose channels and subscriptions are gone.
        RemoveDatabaseStatistics(MyDatabaseId);
        NoteExtensionChange();
    }
    if (two_phase) AfterPreparedEnd();
}

}  // namespace

void InitCommandHook() {
    RegisterXactCallback(OnTransactionEnd, nullptr);
    previous_hook = ProcessUtility_hook;
    ProcessUtility_hook = OnCommand;
}

}  // namespace herald
