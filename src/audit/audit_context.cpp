// See audit_context.hpp. What the row was made of is kept in memory, to be compared at each statement: that is
// cheaper than hooks that would have to know who may change what.

#include "pg/pg.hpp"

#include "audit/audit_context.hpp"

#include "audit/trail_tables.hpp"
#include "change/table_shape.hpp"
#include "settings.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "lib/stringinfo.h"
#include "libpq/libpq-be.h"
#include "mb/pg_wchar.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/varlena.h"
#include "utils/xid8.h"
}

namespace herald {

namespace {

// A row for this transaction.
struct Written {
    bool valid;
    int segment;
    int64 id;
    SubTransactionId subtransaction;
    Oid session_user;
    Oid current_user;
    TimestampTz statement;  // when the one whose text it has began; 0: it has none
    char application_name[NAMEDATALEN];
    uint64 settings;  // which values it has, see NoteSettings
};

Written written;  // the last one

int32 sequence = 0;

// The settings of herald.audit_context: the list as it was read, its names, and their values.
struct {
    char *list;
    int count;
    const char **names;
    char **values;   // NULL: not set
    uint64 version;  // grows with each change of a value
    MemoryContext context;
} noted;

void ReadList() {
    const char *list = settings::audit_context == nullptr ? "" : settings::audit_context;
    if (noted.list != nullptr && std::strcmp(noted.list, list) == 0) return;
    if (noted.context == nullptr)
        noted.context = AllocSetContextCreate(TopMemoryContext, "pg_herald audit context", ALLOCSET_SMALL_SIZES);
    // In an order that an error in between does no harm to.
    noted.list = nullptr;
    noted.count = 0;
    noted.version++;
    MemoryContextReset(noted.context);
    MemoryContext caller = MemoryContextSwitchTo(noted.context);
    List *names = NIL;
    ListCell *cell;
    char *copy = pstrdup(list);
    if (!SplitIdentifierString(copy, ',', &names)) names = NIL;
    const Size count = static_cast<Size>(Max(list_length(names), 1));
    noted.names = static_cast<const char **>(palloc0(sizeof(char *) * count));
    noted.values = static_cast<char **>(palloc0(sizeof(char *) * count));
    foreach (cell, names) noted.names[noted.count++] = static_cast<const char *>(lfirst(cell));
    noted.list = pstrdup(list);
    MemoryContextSwitchTo(caller);
}

// Reads the values; returns a number that differs from that of other values. An empty value counts as none:
// it is what remains of SET LOCAL in the sessions of a pool.
uint64 NoteSettings() {
    ReadList();
    for (int i = 0; i < noted.count; i++) {
        const char *value = GetConfigOption(noted.names[i], true, false);
        if (value != nullptr && *value == '\0') value = nullptr;
        char *old = noted.values[i];
        if (value == old || (value != nullptr && old != nullptr && std::strcmp(value, old) == 0)) continue;
        noted.values[i] = value == nullptr ? nullptr : MemoryContextStrdup(noted.context, value);
        noted.version++;
        if (old != nullptr) pfree(old);
    }
    return noted.version;
}

struct Pair {
    const char *name;
    const char *value;
};

int ComparePairs(const void *a, const void *b) {
    const char *left = static_cast<const Pair *>(a)->name;
    const char *right = static_cast<const Pair *>(b)->name;
    return CompareKeyNames(left, static_cast<int>(std::strlen(left)), right, static_cast<int>(std::strlen(right)));
}

// A value that came with the connection's start is not checked by the server, and may be no text at all. What is
// not, would make the trail unreadable, and its dump one that can't be restored.
const char *AsText(const char *value) {
    return pg_verifymbstr(value, static_cast<int>(std::strlen(value)), true) ? value : "(not a valid text)";
}

// The settings that have a value, as an object; NULL where none has.
Jsonb *SettingsJson() {
    Pair *pairs = static_cast<Pair *>(palloc(sizeof(Pair) * static_cast<Size>(Max(noted.count, 1))));
    int count = 0;
    for (int i = 0; i < noted.count; i++) {
        bool seen = noted.values[i] == nullptr;
        for (int j = 0; j < count; j++) seen = seen || std::strcmp(pairs[j].name, noted.names[i]) == 0;
        if (!seen) pairs[count++] = {noted.names[i], AsText(noted.values[i])};
    }
    if (count == 0) return nullptr;
    qsort(pairs, count, sizeof(Pair), ComparePairs);

    JsonBuffer buffer;
    InitJsonBuffer(&buffer, CurrentMemoryContext);
    ResetJsonBuffer(&buffer);
    JsonStart start = BeginContainer(&buffer, JB_FOBJECT, static_cast<uint32>(count));
    for (int i = 0; i < count; i++)
        SetEntry(&buffer, &start, AppendString(&buffer, pairs[i].name, std::strlen(pairs[i].name)));
    for (int i = 0; i < count; i++)
        SetEntry(&buffer, &start, AppendString(&buffer, pairs[i].value, std::strlen(pairs[i].value)));
    return FinishJson(&buffer);
}

// Calls an SQL function without arguments that may return NULL.
Datum Ask(PGFunction function, bool *is_null) {
    LOCAL_FCINFO(fcinfo, 0);
    InitFunctionCallInfoData(*fcinfo, nullptr, 0, InvalidOid, nullptr, nullptr);
    const Datum value = function(fcinfo);
    *is_null = fcinfo->isnull;
    return value;
}

Datum TextOrNull(const char *text, bool *is_null) {
    *is_null = text == nullptr || *text == '\0';
    return *is_null ? static_cast<Datum>(0) : CStringGetTextDatum(text);
}

Datum RoleName(Oid role) {
    const char *name = GetUserNameFromId(role, true);
    return CStringGetTextDatum(name == nullptr ? psprintf("%u", role) : name);
}

void Write(const Written &row) {
    Datum values[kContextColumns];
    bool nulls[kContextColumns] = {};
    values[kContextId - 1] = Int64GetDatum(row.id);
    values[kContextTransactionId - 1] = FullTransactionIdGetDatum(GetTopFullTransactionId());
    values[kContextSessionUser - 1] = RoleName(row.session_user);
    values[kContextCurrentUser - 1] = RoleName(row.current_user);
    values[kContextApplicationName - 1] = TextOrNull(row.application_name, &nulls[kContextApplicationName - 1]);
    values[kContextClientAddress - 1] = Ask(inet_client_addr, &nulls[kContextClientAddress - 1]);
    values[kContextClientPort - 1] = Ask(inet_client_port, &nulls[kContextClientPort - 1]);
    values[kContextStatement - 1] =
        TextOrNull(row.statement != 0 ? debug_query_string : nullptr, &nulls[kContextStatement - 1]);
    Jsonb *context = SettingsJson();
    values[kContextContext - 1] = PointerGetDatum(context);
    nulls[kContextContext - 1] = context == nullptr;

    const AuditSegment &tables = SegmentTables(row.segment);
    const Oid index = tables.context_index;
    const OtherIndexes others = tables.context_others;
    Relation table = pg::OpenTable(tables.context, RowExclusiveLock, kAuditContextForm);
    HeapTuple tuple = pg::FormRow(table, values, nulls, kContextColumns);
    heap_insert(table, tuple, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, nullptr);
    InsertIndexEntry(table, index, values[kContextId - 1], &tuple->t_self);
    InsertOtherEntries(table, others, tuple);
    table_close(table, NoLock);
}

void Forget() {
    written.valid = false;
    sequence = 0;
}

void KeepSub(SubTransactionId own, SubTransactionId parent) {
    if (written.valid && written.subtransaction >= own) written.subtransaction = parent;
}

void DropSub(SubTransactionId own) {
    if (written.subtransaction >= own) written.valid = false;
}

}  // namespace

const pg::TransactionPart kAuditContextPart = {.before_commit = pg::NoEnd,
                                               .before_prepare = pg::NoEnd,
                                               .committed = Forget,
                                               .prepared = Forget,
                                               .aborted = Forget,
                                               .sub_committed = KeepSub,
                                               .sub_aborted = DropSub};

int64 AuditContextId(int segment) {
    const Oid session_user = GetSessionUserId();
    const Oid current_user = GetUserId();
    const char *name = application_name == nullptr ? "" : application_name;
    const uint64 settings_version = NoteSettings();
    const TimestampTz statement = settings::audit_statement ? GetCurrentStatementStartTimestamp() : 0;

    if (written.valid && written.segment == segment && written.session_user == session_user &&
        written.current_user == current_user && written.settings == settings_version &&
        written.statement == statement &&
        std::strncmp(written.application_name, name, sizeof(written.application_name) - 1) == 0)
        return written.id;

    // What `written` says is true at each moment: an index that somebody has made on the table may run code that
    // changes what is audited.
    Written row{};
    row.segment = segment;
    row.session_user = session_user;
    row.current_user = current_user;
    row.settings = settings_version;
    row.statement = statement;
    pg::CopyString(row.application_name, name, sizeof(row.application_name));
    row.id = NextAuditContextId();
    row.subtransaction = GetCurrentSubTransactionId();
    Write(row);
    row.valid = true;
    written = row;
    return row.id;
}

int32 NextAuditSequence() { return ++sequence; }

}  // namespace herald
