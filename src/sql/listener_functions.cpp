// SQL entry point of herald.listeners.

#include "listen/listeners.hpp"
#include "pg/guard.hpp"
#include "sql/look.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"
}

using namespace herald;

namespace {

// Names may be gone while the session is still there.
Datum TextOrNull(const char *text, bool *null) {
    *null = text == nullptr;
    return *null ? static_cast<Datum>(0) : CStringGetTextDatum(text);
}

int EncodingOf(Oid database) {
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
    if (!HeapTupleIsValid(tuple)) return PG_SQL_ASCII;
    const int encoding = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple))->encoding;
    ReleaseSysCache(tuple);
    return encoding;
}

// Bytes of another database are text here only if they are valid in this one's encoding, or can be converted to it. Those
// of others are shown with \xHH for what isn't ASCII.
const char *TextHere(const char *text, Oid database) {
    const int length = static_cast<int>(strlen(text));
    const int here = GetDatabaseEncoding();
    const int there = database == MyDatabaseId ? here : EncodingOf(database);
    if (there == here) return text;
    if (here == PG_SQL_ASCII || there == PG_SQL_ASCII) {
        if (pg_verify_mbstr(here, text, length, true)) return text;
    } else {
        const Oid conversion = FindDefaultConversionProc(there, here);
        const int size = length * MAX_CONVERSION_GROWTH + 1;
        char *converted = static_cast<char *>(palloc(size));
        if (OidIsValid(conversion) &&
            pg_do_encoding_conversion_buf(conversion, there, here,
                                          reinterpret_cast<unsigned char *>(const_cast<char *>(text)), length,
                                          reinterpret_cast<unsigned char *>(converted), size, true) == length)
            return converted;
    }
    StringInfoData escaped;
    initStringInfo(&escaped);
    for (const char *byte = text; *byte != '\0'; byte++)
        if (IS_HIGHBIT_SET(*byte))
            appendStringInfo(&escaped, "\\x%02x", static_cast<unsigned char>(*byte));
        else
            appendStringInfoChar(&escaped, *byte);
    return escaped.data;
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
        values[3] = CStringGetTextDatum(TextHere(listener.channel, listener.database));
        values[4] = TimestampTzGetDatum(listener.since);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return static_cast<Datum>(0);
}
