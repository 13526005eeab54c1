// See pointer_store.hpp.

#include "publish/pointer_store.hpp"

#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/saved_plan.hpp"
#include "settings.hpp"
#include "tables/id_store.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
}

namespace herald {

namespace {

pg::SavedPlan insert_payload = {
    "INSERT INTO herald_internal.pointer_store (message_id, channel, role, payload, bytes) "
    "VALUES ($1, $2, $3, $4, $5)"};
pg::SavedPlan select_payload = {"SELECT channel, payload FROM herald_internal.pointer_store WHERE message_id = $1"};

pg_atomic_uint64 *ShareOf(DatabaseShared *database, Oid role) {
    return &database->pointers.bytes[hash_bytes_uint32(role) % kPointerShares];
}

uint64 Limit() { return static_cast<uint64>(settings::pointer_space) * 1024; }

}  // namespace

int64 KeepPayload(const char *channel, Datum payload, uint32 bytes) {
    pg_atomic_uint64 *used = ShareOf(ThisDatabase(), GetSessionUserId());
    if (XactReadOnly) return 0;
    if (pg_atomic_add_fetch_u64(used, bytes) > Limit()) {
        pg_atomic_fetch_sub_u64(used, bytes);
        return 0;
    }
    int64 id = DrawIds(IdCounter::kMessage, 1);
    return pg::AsOwner([&] {
        pg::SpiRunSaved(insert_payload, std::array{pg::Int8(id), pg::Text(channel),
                                                   pg::Param{OIDOID, ObjectIdGetDatum(GetSessionUserId()), false},
                                                   pg::Jsonb(payload, false), pg::Int4(static_cast<int32>(bytes))});
        return id;
    });
}

Jsonb *FindKeptPayload(int64 message_id, char **channel) {
    MemoryContext context = CurrentMemoryContext;
    Jsonb *payload = nullptr;
    return pg::AsOwner([&] {
        if (pg::SpiRunSaved(select_payload, std::array{pg::Int8(message_id)}) > 0) {
            MemoryContext spi = MemoryContextSwitchTo(context);
            *channel = pstrdup(pg::SpiText(0, 1));
            payload = DatumGetJsonbPCopy(pg::SpiField(0, 2, JSONBOID).value);
            MemoryContextSwitchTo(spi);
        }
        return payload;
    });
}

void PurgePayloads(DatabaseShared *database) {
    uint64 used[kPointerShares] = {};
    pg::SpiBegin();
    // What is locked, by one who drops the channel, goes with it or the next time.
    (void)pg::SpiRun(
        "DELETE FROM herald_internal.pointer_store WHERE message_id IN ("
        "SELECT message_id FROM herald_internal.pointer_store WHERE published_at < $1 "
        "FOR UPDATE SKIP LOCKED)",
        std::array{pg::Time(GetCurrentTimestamp() - settings::pointer_retention * USECS_PER_SEC)});
    uint64 count =
        pg::SpiRun("SELECT role, pg_catalog.sum(bytes)::bigint FROM herald_internal.pointer_store GROUP BY role");
    for (uint64 row = 0; row < count; row++)
        used[hash_bytes_uint32(DatumGetObjectId(pg::SpiField(row, 1, OIDOID).value)) % kPointerShares] +=
            static_cast<uint64>(pg::SpiInt8(row, 2));
    pg::SpiEnd();
    for (uint32 i = 0; i < kPointerShares; i++) pg_atomic_write_u64(&database->pointers.bytes[i], used[i]);
}

int PointerSpaceUsage(DatabaseShared *database) {
    uint64 most = 0;
    for (pg_atomic_uint64 &used : database->pointers.bytes) most = Max(most, pg_atomic_read_u64(&used));
    return Limit() == 0 ? 0 : static_cast<int>(Min(most * 100 / Limit(), 100));
}

}  // namespace herald
