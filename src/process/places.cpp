// See places.hpp.

#include "process/places.hpp"

#include "outbox/outbox.hpp"
#include "settings.hpp"

extern "C" {
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/timestamp.h"
}

#include <algorithm>
#include <cstring>

namespace herald {

namespace {

// For the launcher itself, and for a worker.
constexpr int kOwnPlaces = 2;
// A database makes room for others that have something to do: after the first time if it has nothing to do, else after
// the second.
constexpr TimestampTz kShortTurn = USECS_PER_SEC;
constexpr TimestampTz kTurn = 30 * USECS_PER_SEC;
constexpr TimestampTz kLookInterval = USECS_PER_SEC / 5;
// Databases in which nothing was to be done are looked at every so many sweeps: rows can come from a restore.
constexpr int kSweepsPerLook = 20;

// Places that others have taken and keep. The workers of a parallel query come and go.
int PlacesOfOthers() {
    int count = 0;
    for (uint32 i = 0; i < ProcGlobal->allProcCount; i++) {
        const int pid = ProcGlobal->allProcs[i].pid;
        const char *type = pid == 0 ? nullptr : GetBackgroundWorkerTypeByPid(pid);
        if (type != nullptr && std::strncmp(type, "pg_herald ", 10) != 0 && std::strcmp(type, "parallel worker") != 0)
            count++;
    }
    return count;
}

int ConsumersRunning(DatabaseShared *database) {
    int count = 0;
    for (int i = 0; i < kConsumers; i++)
        if (ConsumerRuns(database, static_cast<Consumer>(i))) count++;
    return count;
}

bool HasWork(DatabaseShared *database) {
    return pg_atomic_read_u32(&database->dispatcher.open_tasks) > 0 ||
           pg_atomic_read_u32(&database->processes.flags) != 0 || OutboxLength(database, Consumer::kDispatcher) > 0 ||
           OutboxLength(database, Consumer::kAnnouncer) > 0;
}

// Nobody has asked for its consumers.
bool OnlyLooks(DatabaseShared *database) {
    for (ConsumerShared &consumer : database->processes.consumers)
        if (pg_atomic_read_u32(&consumer.wanted) == static_cast<uint32>(Want::kYes)) return false;
    return true;
}

int PlacesOf(DatabaseShared *database) { return static_cast<int>(pg_atomic_read_u32(&database->processes.admitted)); }

bool IsAdmitted(DatabaseShared *database) {
    return PlacesOf(database) > 0 && PlacesOf(database) >= ConsumersNeeded(database);
}

}  // namespace

// True where a database was found that is to be looked at.
bool Places::LookAgain(const std::vector<DatabaseShared *> &served, TimestampTz now) {
    const TimestampTz interval = kSweepsPerLook * settings::sweep_interval * USECS_PER_SEC;
    for (DatabaseShared *database : served) {
        Tenant &tenant = tenants_[database->database];
        if (ConsumersRunning(database) > 0 || tenant.looked_at == 0) tenant.looked_at = now;
        if (ConsumersNeeded(database) > 0 || now - tenant.looked_at < interval) continue;
        tenant.looked_at = now;
        for (ConsumerShared &consumer : database->processes.consumers) {
            uint32 no = static_cast<uint32>(Want::kNo);
            (void)pg_atomic_compare_exchange_u32(&consumer.wanted, &no, static_cast<uint32>(Want::kLook));
        }
        return true;  // one at a time
    }
    return false;
}

// The admitted database that has had its turn, or NULL. Who has been there longest goes first.
DatabaseShared *Places::ToRevoke(const std::vector<DatabaseShared *> &served, TimestampTz now) {
    DatabaseShared *found = nullptr;
    for (DatabaseShared *database : served) {
        if (!IsAdmitted(database) || pg_atomic_read_u32(&database->announcer.heard_channels) > 0) continue;
        const TimestampTz turn = now - tenants_[database->database].admitted_at;
        if (turn < (HasWork(database) ? kTurn : kShortTurn)) continue;
        if (found == nullptr || tenants_[database->database].admitted_at < tenants_[found->database].admitted_at)
            found = database;
    }
    return found;
}

void Places::Report(const PlaceGauges &gauges, int capacity) {
    ShowPlaces(gauges);
    const bool short_of = static_cast<int>(gauges.needed) > max_worker_processes;
    if (short_of && !warned_)
        ereport(WARNING,
                (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                 errmsg("max_worker_processes is too low for all databases that use pg_herald"),
                 errdetail("It is %d, and %u databases need %u. There is room for %d dispatchers and announcers.",
                           max_worker_processes, gauges.databases, gauges.needed, Max(capacity, 0)),
                 errhint("Raise max_worker_processes to at least %u and restart the server. Until then databases take "
                         "turns.",
                         gauges.needed)));
    warned_ = short_of;
}

TimestampTz Places::Decide(const std::vector<DatabaseShared *> &served, TimestampTz now) {
    const int others = PlacesOfOthers();
    const int capacity = max_worker_processes - others - kOwnPlaces;
    std::vector<DatabaseShared *> waiting;
    PlaceGauges gauges = {0, 0, 0};
    int used = 0;
    int needed = 0;
    bool leaving = false;  // a place gets free soon

    for (auto tenant = tenants_.begin(); tenant != tenants_.end();) {
        const bool gone = std::none_of(served.begin(), served.end(), [&](const DatabaseShared *database) {
            return database->database == tenant->first;
        });
        tenant = gone ? tenants_.erase(tenant) : std::next(tenant);
    }
    for (DatabaseShared *database : served) {
        Tenant &tenant = tenants_[database->database];
        const int need = ConsumersNeeded(database);
        const int running = ConsumersRunning(database);
        if (!OnlyLooks(database)) {
            needed += need;
            if (need > 0) gauges.databases++;
        }
        leaving = leaving || (running > 0 && PlacesOf(database) == 0);
        // Whoever leaves because nothing is to be done is not sent away.
        if (PlacesOf(database) > need && running <= need)
            pg_atomic_write_u32(&database->processes.admitted, static_cast<uint32>(need));
        used += Max(PlacesOf(database), running);
        if (need == 0 || IsAdmitted(database)) {
            tenant.waits_since = 0;
            continue;
        }
        if (tenant.waits_since == 0) tenant.waits_since = now;
        waiting.push_back(database);
    }
    gauges.needed = static_cast<uint32>(needed + others + kOwnPlaces);

    std::sort(waiting.begin(), waiting.end(), [&](DatabaseShared *one, DatabaseShared *other) {
        const bool works = HasWork(one);
        if (works != HasWork(other)) return works;
        return tenants_[one->database].waits_since < tenants_[other->database].waits_since;
    });
    bool somebody_works = false;
    for (DatabaseShared *database : waiting) {
        Tenant &tenant = tenants_[database->database];
        const int need = ConsumersNeeded(database);
        // It may have one already, or be leaving.
        const int own = Max(PlacesOf(database), ConsumersRunning(database));
        const int more = need - own;
        // Nobody else is served: then there is no better use of what there is.
        if (used + more > capacity && used > own) {
            gauges.waiting++;
            // One that has never been looked at may have tasks.
            somebody_works = somebody_works || HasWork(database) || (need == 2 && !tenant.dispatched);
            continue;
        }
        used += Max(more, 0);
        tenant.waits_since = 0;
        tenant.admitted_at = now;
        tenant.dispatched = tenant.dispatched || need == 2;
        pg_atomic_write_u32(&database->processes.admitted, static_cast<uint32>(need));
    }
    Report(gauges, capacity);
    if (gauges.waiting == 0 && used + kConsumers <= capacity && LookAgain(served, now)) return now;
    if (!somebody_works) return DT_NOEND;
    DatabaseShared *revoked = leaving ? nullptr : ToRevoke(served, now);
    if (revoked != nullptr) {
        pg_atomic_write_u32(&revoked->processes.admitted, 0);
        for (int i = 0; i < kConsumers; i++) WakeConsumer(revoked, static_cast<Consumer>(i));
    }
    return now + kLookInterval;
}

}  // namespace herald
