// See log_writer.hpp. The segments have no trigger, default or constraint that needs the executor (the script makes
// them so, and OpenTable() refuses others), so a row is formed and handed to the heap.

#include "log/log_writer.hpp"

#include "log/log_table.hpp"
#include "log/recent.hpp"
#include "registry/database.hpp"
#include "pg/epoch.hpp"
#include "pg/extension.hpp"
#include "tables/id_store.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace herald {

namespace {

// Rows of one heap_multi_insert: as many as COPY takes would fill pages better by very little.
constexpr int kRowsAtOnce = 256;

// The text of published_by for a role. Looked up once, as most sessions publish as one role.
struct RoleName {
    Oid role;
    pg::Stamp stamp;
    struct {
        alignas(int32) char bytes[VARHDRSZ + NAMEDATALEN];
    } text;
};

RoleName role_name;
pg::Epoch roles;

void ForgetRoleName(Datum, pg::SyscacheNumber, uint32) { roles.End(); }

Datum RoleNameDatum(Oid role) {
    static bool registered = false;
    if (!registered) {
        CacheRegisterSyscacheCallback(AUTHOID, ForgetRoleName, static_cast<Datum>(0));
        registered = true;
    }
    if (!roles.Is(role_name.stamp) || role_name.role != role) {
        const pg::Stamp begun = roles.Now();
        char *name = GetUserNameFromId(role, false);
        Size length = std::strlen(name);
        std::memcpy(role_name.text.bytes + VARHDRSZ, name, length);
        SET_VARSIZE(role_name.text.bytes, VARHDRSZ + length);
        role_name.role = role;
        role_name.stamp = begun;
        pfree(name);
    }
    return PointerGetDatum(role_name.text.bytes);
}

struct Row {
    Datum values[kLogColumns];
    bool nulls[kLogColumns];
};

void Set(Row *row, LogColumn column, Datum value, bool is_null = false) {
    row->values[column - 1] = value;
    row->nulls[column - 1] = is_null;
}

Row StartRow(int32 channel_id, int32 schema_version, TimestampTz published_at, Oid published_by) {
    Row row{};
    bool known = OidIsValid(published_by);
    Set(&row, kLogPublishedAt, TimestampTzGetDatum(published_at));
    Set(&row, kLogChannelId, Int32GetDatum(channel_id));
    Set(&row, kLogPublishedBy, known ? RoleNameDatum(published_by) : static_cast<Datum>(0), !known);
    Set(&row, kLogSchemaVersion, Int32GetDatum(schema_version), schema_version == 0);
    return row;
}

void FinishRow(Row *row, int64 id, const NewMessage &message) {
    Set(row, kLogId, Int64GetDatum(id));
    Set(row, kLogKey, message.key, message.key == 0);
    Set(row, kLogHeaders, message.headers, message.headers == 0);
    Set(row, kLogPayload, message.payload);
}

// Locks the segment that messages go to. The announcer may have gone on to the next one before the lock was there, so the
// segment is asked for again: rotation relies on nobody writing to one that was left, once its locks are free.
Relation OpenCurrent(uint8 *segment) {
    for (;;) {
        *segment = static_cast<uint8>(CurrentSegment());
        Relation log = pg::OpenTable(pg::Tables().log[*segment], RowExclusiveLock, kLogForm);
        if (CurrentSegment() == *segment) return log;
        table_close(log, RowExclusiveLock);
    }
}

}  // namespace

int CurrentSegment() { return static_cast<int>(pg_atomic_read_u32(&ThisDatabase()->log.segment)); }

MessageAddress WriteMessage(int32 channel_id, int32 schema_version, TimestampTz published_at, Oid published_by,
                            const NewMessage &message) {
    MessageAddress address{};
    Row row = StartRow(channel_id, schema_version, published_at, published_by);
    Relation log = OpenCurrent(&address.segment);

    address.id = DrawIds(IdCounter::kMessage, 1);
    FinishRow(&row, address.id, message);
    HeapTuple tuple = pg::FormRow(log, row.values, row.nulls, kLogColumns);
    pg::InsertRow(log, tuple);
    address.tid = tuple->t_self;
    NoteRecent(address.id, address.segment, address.tid);
    heap_freetuple(tuple);
    table_close(log, NoLock);
    return address;
}

void WriteMessages(int32 channel_id, int32 schema_version, TimestampTz published_at, Oid published_by,
                   const NewMessage *messages, MessageAddress *addresses, int count) {
    Row row = StartRow(channel_id, schema_version, published_at, published_by);
    uint8 segment;
    Relation log = OpenCurrent(&segment);
    BulkInsertState bulk = GetBulkInsertState();
    TupleTableSlot *slots[kRowsAtOnce];
    int slot_count = Min(count, kRowsAtOnce);
    // Tuples and what the heap toasts of them, until their group is written.
    MemoryContext rows = AllocSetContextCreate(CurrentMemoryContext, "pg_herald log rows", ALLOCSET_DEFAULT_SIZES);

    for (int i = 0; i < slot_count; i++) slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(log), &TTSOpsHeapTuple);

    for (int first = 0; first < count; first += kRowsAtOnce) {
        int group = Min(count - first, kRowsAtOnce);
        CHECK_FOR_INTERRUPTS();
        const int64 first_id = DrawIds(IdCounter::kMessage, group);
        MemoryContext outer = MemoryContextSwitchTo(rows);
        for (int i = 0; i < group; i++) {
            addresses[first + i].id = first_id + i;
            FinishRow(&row, first_id + i, messages[first + i]);
            ExecStoreHeapTuple(pg::FormRow(log, row.values, row.nulls, kLogColumns), slots[i], false);
        }
        pg::InsertRows(log, slots, group, bulk);
        for (int i = 0; i < group; i++) {
            addresses[first + i].segment = segment;
            addresses[first + i].tid = slots[i]->tts_tid;
            NoteRecent(addresses[first + i].id, segment, slots[i]->tts_tid);
            ExecClearTuple(slots[i]);
        }
        MemoryContextSwitchTo(outer);
        MemoryContextReset(rows);
    }

    for (int i = 0; i < slot_count; i++) ExecDropSingleTupleTableSlot(slots[i]);
    MemoryContextDelete(rows);
    FreeBulkInsertState(bulk);
    table_close(log, NoLock);
}

}  // namespace herald
