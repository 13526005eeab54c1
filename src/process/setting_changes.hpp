// ALTER ROLE ... SET and ALTER DATABASE ... SET: a session has the settings that its role had when it began, and workers live
// long. When such a command commits, the workers it concerns end after the tasks that they have, and new ones take their place.

#pragma once

#include "pg/transaction_part.hpp"

extern "C" {
#include "nodes/nodes.h"
}

namespace herald {

extern const pg::TransactionPart kSettingChangesPart;

// Called when a command has been executed.
void NoteSettingChange(Node *statement);

}  // namespace herald
