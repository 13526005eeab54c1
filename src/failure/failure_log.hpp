// What failed attempts leave behind: a row of the failure log each, and the task itself in the parked
// table (it runs again, see parked_row.hpp) or among the dead letters (it does not). Called by workers inside the
// transaction that settles the task, so that all of it commits together, or nothing.
//
// All of them need a transaction, write as the extension's owner, and keep their plans: a burst of
// failing tasks is when they must be cheap.

#pragma once

#include "log/stored_message.hpp"
#include "pg/pg.hpp"

namespace herald {

// One failed attempt. Strings may be NULL where the comment says so; of the error's, 8 kB each are kept.
struct FailureRecord {
    int32 subscription_id;
    const char *subscription;
    const char *channel;
    const char *run_as;
    Oid role;  // of run_as; InvalidOid: it is gone
    const char *handler;
    int64 message_id;     // 0: a fault of the subscription as a whole
    const char *task_id;  // see TaskIdOf
    int32 attempt;        // 1 is the first
    int sqlstate;         // as ErrorData has it
    const char *message;  // NULL: "unknown error"
    const char *detail;   // NULL: none
    const char *hint;     // NULL: none
    const char *context;  // NULL: none
    TimestampTz started_at;
    TimestampTz failed_at;
    TimestampTz next_attempt_at;  // DT_NOBEGIN: given up
};

// Adds a row to the failure log.
void RecordFailure(const FailureRecord &record);

// Makes the task a dead letter, and takes it out of the parked table.
void BuryTask(int32 subscription_id, const StoredMessage &message, int32 attempts, int sqlstate,
              const char *error_message, TimestampTz died_at);

// The payload's "task_id" as text where the payload is an object that has one (a string, number or
// boolean), else the message id; cut at 1 kB.
const char *TaskIdOf(const StoredMessage &message);

// Deletes failure-log rows that are older than `retention` microseconds, at most `limit`, oldest first;
// returns how many. For the announcer, in a transaction of its own.
int64 PurgeFailures(int64 retention, int64 limit);

}  // namespace herald
