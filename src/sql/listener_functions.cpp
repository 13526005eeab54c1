// SQL entry point of herald.listeners.

#include "listen/listeners.hpp"
#include "pg/guard.hpp"
#include "sql/look.hpp"

extern "C" {
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/tuplestore.h"
}

using namespace herald;

namespace {

// Names may be gone while the session is still there.
Datum TextOrNull(const char *text, bool *null) {
    *null = text == nullptr;
    return *null ? static_cast<Datum>(0) : CStringGetTextDatum(text);
}

}  // namespace

// Behind the view herald.listeners, which adds what pg_stat_activity knows.
HERALD_FUNCTION(list_listeners) {
    const bool all = MaySeeEverything();
    int count;

    InitMaterializedSRF(fcinfo, 0);
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    const Listener *listeners = ReadListeners(InvalidOid, &count);
    for (int i = 0; i < count; i++) {
        const Listener &listener = listeners[i];
        if (!all && !has_privs_of_role(GetUserId(), listener.role)) continue;
        Datum values[5];
        bool nulls[5] = {};
        values[0] = Int32GetDatum(listener.pid);
        values[1] = TextOrNull(get_database_name(listener.database), &nulls[1]);
        values[2] = TextOrNull(GetUserNameFromId(listener.role, true), &nulls[2]);
        values[3] = CStringGetTextDatum(listener.channel);
        values[4] = TimestampTzGetDatum(listener.since);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return static_cast<Datum>(0);
}
