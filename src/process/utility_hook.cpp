// See utility_hook.hpp.

#include "process/utility_hook.hpp"

#include "outbox/outbox.hpp"
#include "outbox/prepared.hpp"
#include "pg/extension.hpp"
#include "pg/pg.hpp"
#include "stats/subscription_counters.hpp"
#include "process/claims.hpp"
#include "process/session.hpp"
#include "process/setting_changes.hpp"

extern "C" {
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
}

namespace herald {

namespace {

ProcessUtility_hook_type previous_hook = nullptr;

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
    return OidIsValid(table) && getExtensionOfObject(RelationRelationId, table) == get_extension_oid("pg_herald", true);
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
    next(command.statement, command.query, command.read_only_tree, command.context, command.params, command.environment,
         command.receiver, command.completion);
}

void OnCommand(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
               ParamListInfo params, QueryEnvironment *environment, DestReceiver *receiver,
               QueryCompletion *completion) {
    const Command command = {statement, query, read_only_tree, context, params, environment, receiver, completion};
    Node *node = statement->utilityStmt;

    const Oid wanted = DatabaseToLeave(node, context == PROCESS_UTILITY_TOPLEVEL);
    DatabaseShared *database = OidIsValid(wanted) ? FindDatabase(wanted) : nullptr;
    if (database != nullptr) ClaimDatabase(database);
    if (ChangesDatabases(node)) NoteDatabaseChange();
    bool two_phase =
        nodeTag(node) == T_TransactionStmt && (castNode(TransactionStmt, node)->kind == TRANS_STMT_COMMIT_PREPARED ||
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
        // Statistics of an earlier installation, whose channels and subscriptions are gone.
        RemoveDatabaseStatistics(MyDatabaseId);
        NoteExtensionChange();
    }
    if (two_phase) AfterPreparedEnd();
    NoteSettingChange(node);
}

}  // namespace

void InitCommandHook() {
    previous_hook = ProcessUtility_hook;
    ProcessUtility_hook = OnCommand;
}

}  // namespace herald
