// See commands.hpp.

#include "worker/commands.hpp"

#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/pg.hpp"
#include "stats/dead_counts.hpp"
#include "stats/subscription_counters.hpp"
#include "worker/claims.hpp"
#include "worker/session.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
}

namespace herald {

namespace {

ProcessUtility_hook_type previous_hook = nullptr;

// The statement may have ended, or changed, what our processes of this database work on.
bool TouchesExtension(Node *statement) {
    switch (nodeTag(statement)) {
        case T_DropStmt: {
            ObjectType type = castNode(DropStmt, statement)->removeType;
            return type == OBJECT_EXTENSION || type == OBJECT_SCHEMA;
        }
        case T_AlterExtensionStmt:
        case T_DropOwnedStmt:
            return true;
        default:
            return false;
    }
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

void OnCommand(PlannedStmt *statement, const char *query, bool read_only_tree,
               ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
               DestReceiver *receiver, QueryCompletion *completion) {
    const Command command = {statement, query,       read_only_tree, context,
                             params,    environment, receiver,       completion};
    Node *node = statement->utilityStmt;

    const Oid wanted = DatabaseToLeave(node, context == PROCESS_UTILITY_TOPLEVEL);
    DatabaseShared *database = OidIsValid(wanted) ? FindDatabase(wanted) : nullptr;
    if (database != nullptr) ClaimDatabase(database);
    if (ChangesDatabases(node)) NoteDatabaseChange();
    if (TouchesExtension(node) && FindDatabase(MyDatabaseId) != nullptr) NoteExtensionChange();
    bool two_phase = nodeTag(node) == T_TransactionStmt &&
                     (castNode(TransactionStmt, node)->kind == TRANS_STMT_COMMIT_PREPARED ||
                      castNode(TransactionStmt, node)->kind == TRANS_STMT_ROLLBACK_PREPARED);
    if (nodeTag(node) == T_ConstraintsSetStmt) NoteSetConstraints();
    const bool creates = nodeTag(node) == T_CreateExtensionStmt && !pg::ExtensionExists();
    Execute(command);
    // By name or by CASCADE.
    if (creates && pg::ExtensionExists()) {
        // Of an earlier one, whose channels and subscriptions are gone.
        RemoveDatabaseStatistics(MyDatabaseId);
        NoteExtensionChange();
    }
    // No callback knows what a prepared transaction published or changed; its entries may even have been
    // lost in a restart. So both consumers look at everything.
    DatabaseShared *own = two_phase ? FindDatabase(MyDatabaseId) : nullptr;
    // Nor whether it created the extension.
    if (two_phase && pg::ExtensionExists()) {
        own = FindOrCreateDatabase(MyDatabaseId);
        if (own != nullptr) LookForExtension(own);
    }
    if (own != nullptr) {
        ForgetDeadCounts(own);
        RaiseFlag(own, kFlagRescan | kFlagReload | kFlagParked | kFlagReloadAnnouncer | kFlagSubscribed);
        for (int i = 0; i < kConsumers; i++) WakeConsumer(own, static_cast<Consumer>(i));
        // Who starts an announcer for what was left without one.
        if (!Announces(own)) WakeLauncher();
    }
}

}  // namespace

void InitCommandHook() {
    InitClaims();
    previous_hook = ProcessUtility_hook;
    ProcessUtility_hook = OnCommand;
}

}  // namespace herald
