// The triggers through which changes of a table reach us, on the table and on all partitions and children
// below it:
//
// - statement triggers for INSERT, UPDATE and DELETE with transition tables, everywhere in the tree, as
//   only those of the relation that a statement names fire: never two for one row;
// - a row trigger that fires for replicated changes only (ENABLE REPLICA), wherever there can be rows;
// - a statement trigger for TRUNCATE that fires always (ENABLE ALWAYS).
//
// They are ordinary triggers, so that pg_dump keeps them. The functions' EXECUTE is nobody's, so nobody
// else can make such a trigger. All of this needs the rights of the table's owner: callers check that.

#pragma once

#include "pg/pg.hpp"

namespace herald {

struct TriggerSet {
    const char *prefix;    // of the triggers' names: herald_audit_insert
    const char *purpose;   // of the functions' names: herald_internal.audit_insert()
    const char *argument;  // that each trigger gets, or NULL
    bool insert;
    bool update;
    bool del;
    bool truncate;
};

// What every prefix begins with: names that can be neither replaced nor renamed.
inline constexpr std::string_view kTriggerPrefixes[] = {"herald_audit_", "herald_feed_"};

// Makes the triggers of a whole tree what they should be, whatever they were; LockTree comes first. ERROR
// 0A000 where a foreign table is in the tree.
void EnsureTriggers(Oid root, const Oid *tree, int count, const TriggerSet &set);

// The same for one relation, which has come into the tree.
void EnsureMemberTriggers(Oid root, Oid relation, const TriggerSet &set);

// Removes the triggers of a prefix from the relations of a tree, or from some of them. False: there were none.
bool RemoveTriggers(const Oid *tree, int count, const char *prefix);

// What keeps changes of the relation from being seen, or NULL: "trigger "herald_audit_insert" is missing".
const char *FindTriggerProblem(Oid relation, const TriggerSet &set);

// The same of one trigger: also of one that has another name now.
const char *FindTriggerProblem(Oid relation, const TriggerSet &set, const char *trigger);

// True while this module itself changes triggers: what is seen of it then is nobody's doing.
bool ChangingTriggers();

}  // namespace herald
