// herald.version, list_workers, list_subscription_stats and activate: what shared memory and the
// catalogs show. The views in the script build on the two lists.

#include "pg/pg.hpp"

#include "announce/role_names.hpp"
#include "channel/channel.hpp"
#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/guard.hpp"
#include "pg/as_owner.hpp"
#include "pg/roles.hpp"
#include "pg/spi.hpp"
#include "sql/look.hpp"
#include "stats/dead_counts.hpp"
#include "stats/subscription_counters.hpp"
#include "tables/id_store.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"
}

namespace herald {

bool MaySeeEverything() { return has_privs_of_role(GetUserId(), ROLE_PG_MONITOR); }

bool MaySeeSubscription(const Subscription &subscription) {
    if (MaySeeEverything() || OwnsSubscription(subscription)) return true;
    if (OidIsValid(subscription.role) && has_privs_of_role(GetUserId(), subscription.role)) return true;
    const Channel *channel = LookUpChannelById(subscription.channel_id);
    return channel != nullptr && pg::HasRightsOf(GetUserId(), channel->owner);
}

const char *ShownState(const Subscription &subscription) {
    return subscription.inert ? "inert" : NameOfState(subscription.state);
}

namespace {

struct Row {
    Datum values[16];
    bool nulls[16];
    int count;
};

void Add(Row *row, Datum value) {
    row->values[row->count] = value;
    row->nulls[row->count++] = false;
}

void AddNull(Row *row) {
    row->values[row->count] = static_cast<Datum>(0);
    row->nulls[row->count++] = true;
}

void AddText(Row *row, const char *value) {
    if (value == nullptr)
        AddNull(row);
    else
        Add(row, CStringGetTextDatum(value));
}

void AddTime(Row *row, TimestampTz value) {
    if (value == 0)
        AddNull(row);
    else
        Add(row, TimestampTzGetDatum(value));
}

void Put(FunctionCallInfo fcinfo, Row *row) {
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->nulls);
    row->count = 0;
}

const char *NameOfWorkerState(SlotState state) {
    switch (state) {
        case SlotState::kFree:
            return "free";
        case SlotState::kStarting:
            return "starting";
        case SlotState::kIdle:
            return "idle";
        case SlotState::kDealing:
        case SlotState::kAssigned:
        case SlotState::kRunning:
            return "running";
        case SlotState::kReported:
            return "reported";
        case SlotState::kGone:
            return "gone";
        case SlotState::kLeaving:
            return "leaving";
    }
    return "unknown";
}

// A process without a role of its own: launcher, dispatcher, announcer.
void PutProcess(FunctionCallInfo fcinfo, uint32 pid, const char *kind, const char *database, TimestampTz started_at) {
    Row row = {};
    if (pid == 0) return;
    Add(&row, Int32GetDatum(static_cast<int32>(pid)));
    AddText(&row, kind);
    AddText(&row, database);
    AddNull(&row);
    AddText(&row, "running");
    AddNull(&row);
    AddNull(&row);
    AddTime(&row, started_at);
    Put(fcinfo, &row);
}

void PutConsumers(FunctionCallInfo fcinfo) {
    static const char *const kKinds[kConsumers] = {"dispatcher", "announcer"};
    Oid *databases = static_cast<Oid *>(palloc(sizeof(Oid) * kMaxDatabases));
    const int count = ListDatabases(databases, kMaxDatabases);
    for (int i = 0; i < count; i++) {
        DatabaseShared *entry = FindDatabase(databases[i]);
        const char *name = get_database_name(databases[i]);
        if (entry == nullptr || name == nullptr) continue;
        for (int consumer = 0; consumer < kConsumers; consumer++)
            PutProcess(fcinfo, pg_atomic_read_u32(&entry->processes.consumers[consumer].pid), kKinds[consumer], name,
                       static_cast<TimestampTz>(pg_atomic_read_u64(&entry->processes.consumers[consumer].started_at)));
    }
}

void PutWorkers(FunctionCallInfo fcinfo) {
    int count;
    const bool all = MaySeeEverything();
    const Subscription *subscriptions = LoadSubscriptions(CurrentMemoryContext, &count);

    for (int i = 0; i < WorkerSlotLimit(); i++) {
        const WorkerSlotShared *slot = WorkerSlot(i);
        const SlotState state = StateOf(slot);
        if (state == SlotState::kFree) continue;
        const Oid database = slot->database;
        const Oid role = slot->role;
        const bool running = state == SlotState::kAssigned || state == SlotState::kRunning;
        const core::Task &task = TaskOf(slot);
        const int32 subscription = task.subscription;
        const int64 message_id = task.message.id;
        if (!all && !has_privs_of_role(GetUserId(), role)) continue;

        // Names of another database's subscriptions can't be read from here.
        const char *name = nullptr;
        for (int j = 0; running && database == MyDatabaseId && j < count; j++)
            if (subscriptions[j].id == subscription) name = subscriptions[j].name;
        const uint32 pid = pg_atomic_read_u32(const_cast<pg_atomic_uint32 *>(&slot->pid));
        Row row = {};
        if (pid == 0)
            AddNull(&row);
        else
            Add(&row, Int32GetDatum(static_cast<int32>(pid)));
        AddText(&row, "worker");
        AddText(&row, get_database_name(database));
        AddText(&row, GetUserNameFromId(role, true));
        AddText(&row, NameOfWorkerState(state));
        AddText(&row, name);
        if (running)
            Add(&row, Int64GetDatum(message_id));
        else
            AddNull(&row);
        AddTime(&row, state == SlotState::kRunning && slot->started_at != 0 ? slot->started_at : slot->ready_at);
        Put(fcinfo, &row);
    }
}

void AddPercentile(Row *row, const uint64 *counts, double fraction) {
    const std::optional<double> latency = core::Percentile(counts, fraction);
    if (latency)
        Add(row, Float8GetDatum(*latency / 1000));
    else
        AddNull(row);
}

void PutSubscription(FunctionCallInfo fcinfo, const Subscription &subscription) {
    uint64 counts[core::kHistogramBuckets] = {};
    SubscriptionShared *shared = FindSubscriptionShared(MyDatabaseId, subscription.id);
    Row row = {};

    Add(&row, Int32GetDatum(subscription.id));
    AddText(&row, subscription.name);
    AddText(&row, subscription.channel);
    AddText(&row, ShownState(subscription));
    AddText(&row, subscription.reason);
    // Nothing is said of what nobody has counted: a restored subscription, or no dispatcher.
    const bool known = shared != nullptr && GaugesKnown(MyDatabaseId);
    const auto add_gauge = [&](pg_atomic_uint32 *gauge) {
        if (known)
            Add(&row, Int64GetDatum(pg_atomic_read_u32(gauge)));
        else
            AddNull(&row);
    };
    if (shared == nullptr) {
        for (bool counter : {false, false, true, true, false})
            if (counter)
                Add(&row, Int64GetDatum(0));
            else
                AddNull(&row);
        AddNull(&row);
    } else {
        add_gauge(&shared->pending);
        add_gauge(&shared->running);
        Add(&row, Int64GetDatum(static_cast<int64>(pg_atomic_read_u64(&shared->done))));
        Add(&row, Int64GetDatum(static_cast<int64>(pg_atomic_read_u64(&shared->failed))));
        add_gauge(&shared->retrying);
        if (known)
            AddTime(&row, static_cast<TimestampTz>(pg_atomic_read_u64(&shared->oldest_published_at)));
        else
            AddNull(&row);
        for (int i = 0; i < core::kHistogramBuckets; i++) counts[i] = pg_atomic_read_u64(&shared->latency[i]);
    }
    AddPercentile(&row, counts, 0.50);
    AddPercentile(&row, counts, 0.95);
    AddPercentile(&row, counts, 0.99);
    Add(&row, Int64GetDatum(DeadLettersOf(subscription.id)));
    Put(fcinfo, &row);
}

bool OwnsThisDatabase() {
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
    if (!HeapTupleIsValid(tuple)) return false;
    Oid owner = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple))->datdba;
    ReleaseSysCache(tuple);
    return has_privs_of_role(GetUserId(), owner);
}

// Restored rows may have ids above those in use, where only some of the tables were restored.
void RaiseMessageIds() {
    (void)pg::SpiRun(
        "SELECT COALESCE(pg_catalog.max(id), 0) FROM ("
        "SELECT pg_catalog.max(id) FROM herald_internal.log UNION ALL "
        "SELECT pg_catalog.max(message_id) FROM herald_internal.parked_store UNION ALL "
        "SELECT pg_catalog.max(message_id) FROM herald_internal.dead_letter_store UNION ALL "
        "SELECT pg_catalog.max(message_id) FROM herald_internal.failure_store) AS t (id)");
    RaiseIds(IdCounter::kMessage, pg::SpiInt8(0, 1));
}

}  // namespace

}  // namespace herald

using namespace herald;

HERALD_FUNCTION(version) {
    TupleDesc description;
    Datum values[2];
    bool nulls[2] = {false, false};

    if (get_call_result_type(fcinfo, nullptr, &description) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "herald.version must return a row");
    MemoryContext context = CurrentMemoryContext;
    values[0] = CStringGetTextDatum(PG_HERALD_VERSION);
    char *extension = pg::AsOwner([&] {
        nulls[1] = pg::SpiRun(
                       "SELECT extversion FROM pg_catalog.pg_extension "
                       "WHERE extname = 'pg_herald'") == 0;
        return nulls[1] ? nullptr : MemoryContextStrdup(context, pg::SpiText(0, 1));
    });
    values[1] = nulls[1] ? static_cast<Datum>(0) : CStringGetTextDatum(extension);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(description), values, nulls)));
}

HERALD_FUNCTION(list_workers) {
    InitMaterializedSRF(fcinfo, 0);
    PutProcess(fcinfo, static_cast<uint32>(LauncherPid()), "launcher", nullptr, 0);
    PutConsumers(fcinfo);
    PutWorkers(fcinfo);
    return static_cast<Datum>(0);
}

HERALD_FUNCTION(list_subscription_stats) {
    int count;

    InitMaterializedSRF(fcinfo, 0);
    const Subscription *subscriptions = LoadSubscriptions(CurrentMemoryContext, &count);
    for (int i = 0; i < count; i++)
        if (MaySeeSubscription(subscriptions[i])) PutSubscription(fcinfo, subscriptions[i]);
    return static_cast<Datum>(0);
}

HERALD_FUNCTION(activate) {
    if (!OwnsThisDatabase())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied to activate the subscriptions of this database"),
                        errhint("Only the owner of the database or a superuser may do this.")));
    char *system_identifier = psprintf(UINT64_FORMAT, GetSystemIdentifier());

    pg::AsOwner([&] {
        pg::SpiRun(
            "UPDATE herald_internal.subscription_store SET system_identifier = $1, database_oid = $2 "
            "WHERE system_identifier <> $1 OR database_oid <> $2",
            std::array{pg::Text(system_identifier), pg::Int8(MyDatabaseId)});
        RaiseMessageIds();
        pg::InvalidateCatalogCaches();
    });
    RefreshRoleNames();
    AdoptSubscriptionRoles();
    RaiseFlagAtCommit(kFlagReload | kFlagRescan | kFlagSubscribed);
    // Nobody has counted the dead letters that came by a restore.
    ThisDatabase()->dead_letters.Forget();
    PG_RETURN_VOID();
}
