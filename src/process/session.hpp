// What a handler may leave in its session besides its effects: it must be gone before the next task.

#pragma once

namespace herald {

// True where the handlers of this transaction have left what can only go with its end: advisory locks,
// temporary objects, SET CONSTRAINTS. Then no other task may run in it.
bool LeftTrace();

// For the command hook: a SET CONSTRAINTS was run, whose effect lasts until the transaction ends.
void NoteSetConstraints();

// Throws away cursors, prepared statements, sequence values and temporary objects. In a transaction.
void CleanSessionInTransaction();
// Session-level advisory locks. After the commit, so that the effects are visible first.
void CleanSessionAfterTransaction();

}  // namespace herald
