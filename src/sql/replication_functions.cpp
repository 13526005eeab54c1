// The triggers that keep changes of another server away from the tables of the extension. They are enabled for
// replicas only, and let those pass that a session makes with session_replication_role = replica, as some do to
// restore a dump.

#include "pg/pg.hpp"

#include "pg/guard.hpp"
#include "tables/replication.hpp"

extern "C" {
#include "commands/trigger.h"
#include "utils/rel.h"
}

HERALD_FUNCTION(guard_replicated) {
    using namespace herald;
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("the function must be called as a trigger")));
    const TriggerData *trigger = reinterpret_cast<const TriggerData *>(fcinfo->context);
    const TriggerEvent event = trigger->tg_event;
    if (!TRIGGER_FIRED_BEFORE(event))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("the function must be called before the change")));
    if (TRIGGER_FIRED_FOR_ROW(event)) {
        if (IsReplicatedChange()) return static_cast<Datum>(0);
        return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(event) ? trigger->tg_newtuple : trigger->tg_trigtuple);
    }
    if (IsReplicatedChange() && TRIGGER_FIRED_BY_TRUNCATE(event))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("another server wants table \"herald_internal.%s\" to be emptied",
                               RelationGetRelationName(trigger->tg_relation)),
                        errdetail("The tables of pg_herald belong to their database."),
                        errhint("Skip the change by ALTER SUBSCRIPTION ... SKIP, and publish only tables of other "
                                "schemas.")));
    return static_cast<Datum>(0);
}
