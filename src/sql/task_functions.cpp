// herald_internal.list_tasks and task_payload, on which the view herald.tasks builds. A view over the log itself would lock it for
// as long as the transaction of whoever looks: nothing could be emptied meanwhile. The payloads are
// looked up one by one, and so only by those who ask for them.

#include "pg/pg.hpp"

#include "channel/channel.hpp"
#include "log/log_table.hpp"
#include "pg/extension.hpp"
#include "pg/guard.hpp"
#include "pg/as_owner.hpp"
#include "pg/spi.hpp"
#include "pg/subtransaction.hpp"
#include "sql/look.hpp"
#include "subscription/progress.hpp"
#include "tables/own_tables.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "storage/bufmgr.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
}

#include <algorithm>

namespace herald {

namespace {

constexpr long kRowsAtOnce = 1000;
// Where a task lies, beside the segments of the log.
constexpr int32 kParked = -1;
constexpr int32 kBuried = -2;

constexpr char kSelectTasks[] =
    "WITH settled AS MATERIALIZED (SELECT subscription_id, message_id FROM herald_internal.settled), "
    "open AS ("
    "SELECT s.id AS subscription, l.id, 0 AS attempts, NULL::pg_catalog.timestamptz AS due, l.segment AS place, l.address, l.key "
    "FROM herald_internal.subscription_store AS s JOIN herald_internal.log AS l ON l.channel_id = s.channel_id "
    "WHERE s.id = ANY ($1) AND NOT EXISTS (SELECT FROM settled AS d WHERE d.subscription_id = s.id AND d.message_id = l.id) "
    "UNION ALL SELECT subscription_id, message_id, attempts, next_attempt_at, -1, ctid, key "
    "FROM herald_internal.parked_store WHERE subscription_id = ANY ($1)) "
    // With what has the same key and comes first.
    "SELECT subscription, id, attempts, due, place, address, CASE WHEN key IS NOT NULL THEN "
    "pg_catalog.lag(id) OVER (PARTITION BY subscription, key ORDER BY id) END FROM open "
    "UNION ALL SELECT subscription_id, message_id, attempts, NULL, -2, ctid, NULL "
    "FROM herald_internal.dead_letter_store WHERE subscription_id = ANY ($1)";

bool IsRunning(int32 subscription, int64 message_id) {
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        const WorkerSlotShared *slot = WorkerSlot(i);
        const SlotState state = StateOf(slot);
        if ((state == SlotState::kAssigned || state == SlotState::kRunning) && slot->database == MyDatabaseId &&
            TaskOf(slot).subscription == subscription && TaskOf(slot).message.id == message_id)
            return true;
    }
    return false;
}

// earlier: the message with the same key that comes first; NULL: none does.
const char *WaitReason(const Subscription &subscription, TimestampTz due, const pg::Field &earlier) {
    if (!subscription.inert && subscription.state == SubscriptionState::kHeld)
        return psprintf("held: %s", subscription.reason == nullptr ? "" : subscription.reason);
    if (subscription.inert || subscription.state != SubscriptionState::kActive) return ShownState(subscription);
    if (due > GetCurrentTimestamp()) return "retry delay";
    if (!earlier.is_null) return psprintf("key: message " INT64_FORMAT, DatumGetInt64(earlier.value));
    return CountRunning(subscription.id) >= subscription.max_concurrency ? "max_concurrency" : "worker";
}

// One row of the statement's as one of the function's.
void PutTask(FunctionCallInfo fcinfo, const Subscription &subscription, uint64 row) {
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    const int64 message_id = pg::SpiInt8(row, 2);
    const int32 attempts = pg::SpiInt4(row, 3);
    const pg::Field due = pg::SpiField(row, 4, TIMESTAMPTZOID);
    const int32 place = pg::SpiInt4(row, 5);
    const bool dead = place == kBuried;
    const bool running = !dead && IsRunning(subscription.id, message_id);
    const bool waits = !dead && !running;
    const char *state = dead ? "dead" : running ? "running" : attempts > 0 ? "retrying" : "pending";
    const char *reason = waits ? WaitReason(subscription, due.is_null ? DT_NOBEGIN : DatumGetTimestampTz(due.value),
                                            pg::SpiField(row, 7, INT8OID))
                               : "";
    Datum values[9] = {CStringGetTextDatum(subscription.name),
                       CStringGetTextDatum(subscription.channel),
                       Int64GetDatum(message_id),
                       CStringGetTextDatum(state),
                       Int32GetDatum(running ? attempts + 1 : attempts),
                       due.value,
                       CStringGetTextDatum(reason),
                       Int32GetDatum(place),
                       pg::SpiField(row, 6, TIDOID).value};
    bool nulls[9] = {};
    nulls[5] = due.is_null || !waits;
    nulls[6] = !waits;
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

void PutTasks(FunctionCallInfo fcinfo, const Subscription *subscriptions, int count, Datum ids) {
    pg::AsOwner([&] {
        Portal portal = pg::SpiOpenCursor(kSelectTasks, {INT4ARRAYOID, ids, false});
        MemoryContext per_batch =
            AllocSetContextCreate(CurrentMemoryContext, "pg_herald tasks", ALLOCSET_DEFAULT_SIZES);
        do {
            SPI_cursor_fetch(portal, true, kRowsAtOnce);
            MemoryContext spi = MemoryContextSwitchTo(per_batch);
            for (uint64 row = 0; row < SPI_processed; row++) {
                const int32 id = pg::SpiInt4(row, 1);
                const Subscription *found =
                    std::lower_bound(subscriptions, subscriptions + count, id,
                                     [](const Subscription &one, int32 wanted) { return one.id < wanted; });
                if (found < subscriptions + count && found->id == id) PutTask(fcinfo, *found, row);
            }
            MemoryContextSwitchTo(spi);
            MemoryContextReset(per_batch);
            SPI_freetuptable(SPI_tuptable);
            CHECK_FOR_INTERRUPTS();
        } while (SPI_processed > 0);
        SPI_cursor_close(portal);
    });
}

// The columns of a table in which payloads lie.
struct PayloadColumns {
    const pg::TableForm &form;
    AttrNumber id;
    AttrNumber channel_id;
    AttrNumber payload;
};
constexpr PayloadColumns kLogPayloadColumns = {kLogForm, kLogId, kLogChannelId, kLogPayload};
constexpr PayloadColumns kParkedPayloadColumns = {kParkedForm, 2, 3, 8};
constexpr PayloadColumns kBuriedPayloadColumns = {kDeadLetterForm, 3, 4, 9};

// The payload of a message in a row at that address, and its channel; NULL where it is not there (any more).
Jsonb *ReadPayload(Oid table, const PayloadColumns &columns, ItemPointerData tid, int64 id, int32 *channel_id) {
    Jsonb *payload = nullptr;
    Relation relation = pg::OpenTable(table, AccessShareLock, columns.form);
    if (ItemPointerIsValid(&tid) && ItemPointerGetBlockNumber(&tid) < RelationGetNumberOfBlocks(relation)) {
        HeapTupleData tuple;
        Buffer buffer;
        tuple.t_self = tid;
        if (heap_fetch(relation, GetActiveSnapshot(), &tuple, &buffer, false)) {
            bool is_null;
            TupleDesc descriptor = RelationGetDescr(relation);
            if (DatumGetInt64(heap_getattr(&tuple, columns.id, descriptor, &is_null)) == id) {
                *channel_id = DatumGetInt32(heap_getattr(&tuple, columns.channel_id, descriptor, &is_null));
                payload = DatumGetJsonbPCopy(heap_getattr(&tuple, columns.payload, descriptor, &is_null));
            }
            ReleaseBuffer(buffer);
        }
    }
    table_close(relation, AccessShareLock);
    return payload;
}

}  // namespace

}  // namespace herald

using namespace herald;

HERALD_FUNCTION(list_tasks) {
    int count;
    InitMaterializedSRF(fcinfo, 0);
    const Subscription *subscriptions = LoadSubscriptions(CurrentMemoryContext, &count);
    Datum *ids = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    int seen = 0;
    for (int i = 0; i < count; i++)
        if (MaySeeSubscription(subscriptions[i])) ids[seen++] = Int32GetDatum(subscriptions[i].id);
    if (seen == 0) return static_cast<Datum>(0);
    const Datum list = PointerGetDatum(construct_array(ids, seen, INT4OID, sizeof(int32), true, TYPALIGN_INT));
    pg::ReadAndLetGo([&] { PutTasks(fcinfo, subscriptions, count, list); });
    return static_cast<Datum>(0);
}

HERALD_FUNCTION(task_payload) {
    const int32 place = PG_GETARG_INT32(0);
    const ItemPointerData tid = *reinterpret_cast<ItemPointer>(PG_GETARG_POINTER(1));
    const int64 id = PG_GETARG_INT64(2);
    Jsonb *payload = nullptr;
    int32 channel_id = 0;

    if (place >= 0 && place < pg::kSegments)
        payload = ReadPayload(pg::Tables().log[place], kLogPayloadColumns, tid, id, &channel_id);
    else if (place == kParked)
        payload = ReadPayload(pg::Tables().parked_store, kParkedPayloadColumns, tid, id, &channel_id);
    else if (place == kBuried)
        payload = ReadPayload(get_relname_relid("dead_letter_store", pg::Tables().internal), kBuriedPayloadColumns, tid,
                              id, &channel_id);
    if (payload == nullptr) PG_RETURN_NULL();
    const Channel *channel = LookUpChannelById(channel_id);
    if (channel == nullptr || (channel->privileges & kPrivilegeRead) == 0) PG_RETURN_NULL();
    PG_RETURN_JSONB_P(payload);
}
