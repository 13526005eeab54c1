// Who makes the changes, and in what circumstances: one row per transaction, to which its changes refer. A new
// one only when something of it has changed meanwhile (SET ROLE, a SECURITY DEFINER function, application_name,
// a setting of herald.audit_context).

#pragma once

#include "pg/transaction_part.hpp"

namespace herald {

// The id of the row that describes this moment, in the table that goes with `segment`; writes it where there is
// none yet.
int64 AuditContextId(int segment);

// The next number of a change within the transaction, from 1. Those of a subtransaction that was rolled back
// are missing.
int32 NextAuditSequence();

// Called once per process, from _PG_init.
extern const pg::TransactionPart kAuditContextPart;

}  // namespace herald
