// SQL entry points of the ids of our tables: for the defaults of their columns, and for a restore.

#include "pg/pg.hpp"

#include "pg/extension.hpp"
#include "pg/guard.hpp"
#include "tables/id_store.hpp"

extern "C" {
#include "access/htup_details.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
}

using namespace herald;

// herald_internal.next_id(counter text) -> bigint
HERALD_FUNCTION(next_id) {
    if (!pg::OwnsRelation(pg::Tables().id_store, GetUserId()))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of the extension pg_herald")));
    PG_RETURN_INT64(DrawIds(FindIdCounter(text_to_cstring(PG_GETARG_TEXT_PP(0))), 1));
}

// A row that is inserted raises its counter, and is not stored: so a restore never sets one back.
HERALD_FUNCTION(guard_ids) {
    const TriggerData *trigger = reinterpret_cast<TriggerData *>(fcinfo->context);
    if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
        !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || RelationGetRelid(trigger->tg_relation) != pg::Tables().id_store)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("herald_internal.guard_ids() is the trigger of the table herald_internal.id_store")));
    bool is_null[2];
    TupleDesc description = RelationGetDescr(trigger->tg_relation);
    const Datum used = heap_getattr(trigger->tg_trigtuple, 1, description, &is_null[0]);
    const Datum counter = heap_getattr(trigger->tg_trigtuple, 2, description, &is_null[1]);
    if (is_null[0] || is_null[1])
        ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("a row of \"id_store\" has no NULLs")));
    RaiseIds(FindIdCounter(TextDatumGetCString(counter)), DatumGetInt64(used));
    return static_cast<Datum>(0);
}
