// All tables of the extension, with the columns that the script gives them. Who adds a column to the script adds it
// here, and where rows are formed or read by number.

#pragma once

#include "pg/table_form.hpp"

namespace herald {

extern const pg::TableForm kIdForm;
extern const pg::TableForm kLogForm;
extern const pg::TableForm kSettledForm;
extern const pg::TableForm kParkedForm;
extern const pg::TableForm kChannelForm;
extern const pg::TableForm kChannelGrantForm;
extern const pg::TableForm kDeadLetterForm;
extern const pg::TableForm kChangeFeedForm;
extern const pg::TableForm kAuditTargetForm;
extern const pg::TableForm kAuditForm;
extern const pg::TableForm kAuditContextForm;

// The tables that are not as the script made them, each with the reason; NULL: all are. In the current context.
const char *FindMisfits();

// Those that tasks are read from and recorded in. Cheap while none has changed. Waits for nobody.
void RequireTaskTables();  // ERROR 55000 where one is not as it was made
bool TaskTablesFit();      // false then, and a LOG line at most once a minute

}  // namespace herald
