// See setting_changes.hpp. Nothing is told when a prepared transaction commits: workers have the new settings when they are
// started anew.

#include "process/setting_changes.hpp"

#include "pg/transaction_list.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "commands/dbcommands.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
}

namespace herald {

namespace {

struct SettingChange {
    Oid database;  // InvalidOid: any
    Oid role;      // InvalidOid: any
    SubTransactionId subtransaction;
};

pg::TransactionList<SettingChange> changes;

void Tell() {
    for (const SettingChange &change : changes) EvictWorkersOf(change.database, change.role);
    changes.Forget();
}

void Forget() { changes.Forget(); }

void KeepSub(SubTransactionId own, SubTransactionId parent) { changes.KeepSub(own, parent); }

void DropSub(SubTransactionId own) { changes.DropSub(own); }

void Note(Oid database, Oid role) {
    for (const SettingChange &known : changes)
        if (known.database == database && known.role == role && known.subtransaction == GetCurrentSubTransactionId())
            return;
    (void)changes.Add({database, role, GetCurrentSubTransactionId()});
}

}  // namespace

const pg::TransactionPart kSettingChangesPart = {.before_commit = pg::NoEnd,
                                                 .before_prepare = pg::NoEnd,
                                                 .committed = Tell,
                                                 .prepared = Forget,
                                                 .aborted = Forget,
                                                 .sub_committed = KeepSub,
                                                 .sub_aborted = DropSub};

void NoteSettingChange(Node *statement) {
    if (nodeTag(statement) == T_AlterRoleSetStmt) {
        const AlterRoleSetStmt *change = castNode(AlterRoleSetStmt, statement);
        Note(change->database == nullptr ? InvalidOid : get_database_oid(change->database, true),
             change->role == nullptr ? InvalidOid : get_rolespec_oid(change->role, true));
    } else if (nodeTag(statement) == T_AlterDatabaseSetStmt) {
        Note(get_database_oid(castNode(AlterDatabaseSetStmt, statement)->dbname, true), InvalidOid);
    }
}

}  // namespace herald
