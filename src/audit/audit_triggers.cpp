// The trigger functions of audited tables.

#include "pg/pg.hpp"

#include "audit/audit_target.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "commands/trigger.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

Datum Record(FunctionCallInfo fcinfo) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("the function must be called as a trigger")));
    const TriggerData *trigger = reinterpret_cast<TriggerData *>(fcinfo->context);
    (void)TargetOf(RelationGetRelid(trigger->tg_relation));
    return PointerGetDatum(nullptr);
}

}  // namespace

}  // namespace herald

HERALD_FUNCTION(audit_insert) { return herald::Record(fcinfo); }
HERALD_FUNCTION(audit_update) { return herald::Record(fcinfo); }
HERALD_FUNCTION(audit_delete) { return herald::Record(fcinfo); }
HERALD_FUNCTION(audit_truncate) { return herald::Record(fcinfo); }
HERALD_FUNCTION(audit_replica) { return herald::Record(fcinfo); }
