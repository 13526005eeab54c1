// Commands that concern tables we watch: partitions that come and go, renames, triggers that somebody drops
// or disables. What a command does is noted while it runs, by the server's hook on objects, and handed to
// the handlers when it is done. Not event triggers: they would fail every DDL of a database whose server lost
// the library, and can be switched off.

#pragma once

#include "pg/transaction_part.hpp"

namespace herald {

enum class TableChangeKind : uint8 {
    kAltered,        // it, a column or its key: names may have changed
    kColumnRenamed,  // from `column` to `new_column`, here and in the tables below it; kAltered was told before
    kParentChanged,  // it was attached to `parent`, or detached from it
    kDropped,        // it is gone; names and ancestors are those it had
    kTriggerCreated,
    kTriggerAltered,  // disabled, enabled or renamed
    kTriggerDropped,
    kSchemasAltered,  // any relation may have another schema name
};

struct TableChange {
    TableChangeKind kind;
    Oid relation;  // may not exist (any more)
    Oid parent;
    const char *schema_name;  // kDropped
    const char *table_name;
    const Oid *ancestors;
    int ancestor_count;
    Oid trigger;
    Oid trigger_function;
    const char *trigger_name;
    const char *column;
    const char *new_column;
    SubTransactionId subtransaction;
};

// What is told: all that a command has changed, in order, after it. The extension exists then, and the
// commands' changes are visible.
using ChangeHandler = void (*)(const TableChange *changes, int count);
// Called before a command that renames something or moves it to another schema, if the extension exists.
using RenameHandler = void (*)();
// Called when a relation is about to be dropped; may raise an ERROR.
using DropHandler = void (*)(Oid relation);

// From _PG_init only; NULL for what is not wanted.
void OnTableChanges(ChangeHandler changes, RenameHandler renames, DropHandler drops);

// Called once per process, from _PG_init.
extern const pg::TransactionPart kTableChangesPart;
void InitTableChanges();

}  // namespace herald
