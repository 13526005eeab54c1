// See database.hpp. The registry is a plain array: a look-up costs a scan of the oids and happens once
// per process.

#include "registry/database.hpp"

#include "registry/lwlocks.hpp"
#include "pg/process.hpp"

extern "C" {
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
}

namespace herald {

namespace {

struct RegistryShared {
    // Atomic; written by the launcher at start and exit: its proc number + 1, and its pid.
    pg_atomic_uint32 launcher;
    pg_atomic_uint32 launcher_pid;
    // Atomic. 1 where somebody has woken the launcher since its turn began. Set by who does, cleared by the launcher.
    pg_atomic_uint32 launcher_woken;
    // Atomic, each a TimestampTz written by the launcher: when its turn began (0: it sleeps), when the last one ended.
    pg_atomic_uint64 launcher_busy_since;
    pg_atomic_uint64 launcher_turned_at;
    // Atomic. Sum of `starved` of all databases.
    pg_atomic_uint32 starved;
    // Atomic, written by the launcher: the PlaceGauges.
    pg_atomic_uint32 places_needed;
    pg_atomic_uint32 places_databases;
    pg_atomic_uint32 places_waiting;
    // Each entry's `database` is guarded by the registry lock, see DatabaseShared.
    DatabaseShared databases[kMaxDatabases];
};

RegistryShared *registry = nullptr;
DatabaseShared *own_database = nullptr;  // of this process
int own_consumer = -1;

// A process that waits for a lock in the middle of a turn has its latch reset by that wait. So the wake-up is noted, too.
// Written only if that changes something: all publishers come by here.
void Wake(pg_atomic_uint32 *proc, pg_atomic_uint32 *woken) {
    pg_memory_barrier();  // what it is for is seen by who clears the note later
    if (pg_atomic_read_u32(woken) == 0) pg_atomic_write_u32(woken, 1);
    uint32 number = pg_atomic_read_u32(proc);
    if (number != 0) SetLatch(&ProcGlobal->allProcs[number - 1].procLatch);
}

void ForgetWakes(pg_atomic_uint32 *woken) {
    pg_atomic_write_u32(woken, 0);
    pg_memory_barrier();  // what it was for is seen in this turn
}

bool SleepUnlessWoken(pg_atomic_uint32 *woken, long milliseconds) {
    const bool noted = pg_atomic_read_u32(woken) != 0;
    return pg::SleepOnLatch(noted ? 0 : milliseconds) || noted;
}

DatabaseShared *Search(Oid database) {
    for (int i = 0; i < kMaxDatabases; i++)
        if (registry->databases[i].database == database) return &registry->databases[i];
    return nullptr;
}

void LeaveConsumer(int, Datum) {
    if (own_database == nullptr || own_consumer < 0) return;
    if (own_consumer == static_cast<int>(Consumer::kDispatcher)) {
        SetStarved(own_database, 0);
        pg_atomic_write_u32(&own_database->dispatcher.gauges_known, 0);
    }
    if (own_consumer == static_cast<int>(Consumer::kAnnouncer))
        pg_atomic_write_u32(&own_database->processes.announces, 0);
    pg_atomic_write_u64(&own_database->processes.consumers[own_consumer].busy_since, 0);
    pg_atomic_write_u32(&own_database->processes.consumers[own_consumer].pid, 0);
    pg_atomic_write_u32(&own_database->processes.consumers[own_consumer].proc, 0);
    WakeLauncher();
}

}  // namespace

DatabaseShared *FindDatabase(Oid database) {
    LWLockAcquire(Lock(kRegistryLock), LW_SHARED);
    DatabaseShared *found = OidIsValid(database) ? Search(database) : nullptr;
    LWLockRelease(Lock(kRegistryLock));
    return found;
}

DatabaseShared *FindOrCreateDatabase(Oid database) {
    DatabaseShared *entry = FindDatabase(database);
    if (entry != nullptr) return entry;

    LWLockAcquire(Lock(kRegistryLock), LW_EXCLUSIVE);
    entry = Search(database);
    if (entry == nullptr) {
        entry = Search(InvalidOid);
        if (entry != nullptr) {
            SetStarved(entry, 0);
            entry->ForEachPart([](auto &part) { part.Reset(); });
            entry->database = database;
        }
    }
    LWLockRelease(Lock(kRegistryLock));
    return entry;
}

DatabaseShared *ThisDatabase() {
    if (own_database != nullptr && own_database->database == MyDatabaseId) return own_database;
    own_database = FindOrCreateDatabase(MyDatabaseId);
    if (own_database == nullptr)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                        errmsg("pg_herald cannot serve more than %d databases of one server", kMaxDatabases),
                        errhint("Drop the extension in databases that do not need it.")));
    return own_database;
}

int ListDatabases(Oid *databases, int capacity) {
    int count = 0;
    LWLockAcquire(Lock(kRegistryLock), LW_SHARED);
    for (int i = 0; i < kMaxDatabases && count < capacity; i++)
        if (OidIsValid(registry->databases[i].database)) databases[count++] = registry->databases[i].database;
    LWLockRelease(Lock(kRegistryLock));
    return count;
}

void SetStarved(DatabaseShared *database, uint32 roles) {
    uint32 before = pg_atomic_exchange_u32(&database->dispatcher.starved, roles);
    if (before != roles)
        pg_atomic_fetch_add_u32(&registry->starved, static_cast<int32>(roles) - static_cast<int32>(before));
}

int StarvedElsewhere(DatabaseShared *database) {
    return static_cast<int>(pg_atomic_read_u32(&registry->starved)) -
           static_cast<int>(pg_atomic_read_u32(&database->dispatcher.starved));
}

void NoteAbsence(DatabaseShared *database, uint32 seen) {
    pg_atomic_write_u32(&database->extension.presence, static_cast<uint32>(Presence::kAbsent));
    pg_memory_barrier();
    if (pg_atomic_read_u32(&database->extension.changes) != seen) {
        pg_atomic_write_u32(&database->extension.presence, static_cast<uint32>(Presence::kUnknown));
        WakeLauncher();
        return;
    }
    // The other one may have looked just before, and sleeps for long.
    for (int i = 0; i < kConsumers; i++) WakeConsumer(database, static_cast<Consumer>(i));
}

void LookForExtension(DatabaseShared *database) {
    // An extension that is there is looked after by its own processes; only "absent" is in doubt. The count comes
    // first, see NoteAbsence.
    pg_atomic_fetch_add_u32(&database->extension.changes, 1);
    uint32 absent = static_cast<uint32>(Presence::kAbsent);
    (void)pg_atomic_compare_exchange_u32(&database->extension.presence, &absent,
                                         static_cast<uint32>(Presence::kUnknown));
    WakeLauncher();
}

void WantConsumer(DatabaseShared *database, Consumer consumer) {
    const int number = static_cast<int>(consumer);
    const uint32 yes = static_cast<uint32>(Want::kYes);
    // The launcher has been told.
    if (pg_atomic_read_u32(&database->processes.consumers[number].wanted) == yes) return;
    pg_atomic_write_u32(&database->processes.consumers[number].wanted, yes);
    WakeLauncher();
}

bool IsWanted(const DatabaseShared *database, Consumer consumer) {
    return pg_atomic_read_u32(const_cast<pg_atomic_uint32 *>(
               &database->processes.consumers[static_cast<int>(consumer)].wanted)) != static_cast<uint32>(Want::kNo);
}

// Whoever wants a consumer first asks and then wants it: one of the two is seen here, or the launcher starts
// the next one.
bool GiveUpWork(DatabaseShared *database, Consumer consumer, uint32 flags, bool looked_only) {
    const int number = static_cast<int>(consumer);
    // A consumer that was started to look may have been wanted since, by somebody who has left nothing here to see.
    uint32 look = static_cast<uint32>(Want::kLook);
    if (!looked_only)
        pg_atomic_write_u32(&database->processes.consumers[number].wanted, static_cast<uint32>(Want::kNo));
    else if (!pg_atomic_compare_exchange_u32(&database->processes.consumers[number].wanted, &look,
                                             static_cast<uint32>(Want::kNo)))
        return false;
    pg_memory_barrier();
    if ((pg_atomic_read_u32(&database->processes.flags) & flags) == 0 &&
        (consumer == Consumer::kDispatcher || database->outbox.queues[number].length == 0))
        return true;
    pg_atomic_write_u32(&database->processes.consumers[number].wanted, static_cast<uint32>(Want::kYes));
    return false;
}

void ShowPlaces(const PlaceGauges &gauges) {
    pg_atomic_write_u32(&registry->places_needed, gauges.needed);
    pg_atomic_write_u32(&registry->places_databases, gauges.databases);
    pg_atomic_write_u32(&registry->places_waiting, gauges.waiting);
}

PlaceGauges ReadPlaces() {
    return {pg_atomic_read_u32(&registry->places_needed), pg_atomic_read_u32(&registry->places_databases),
            pg_atomic_read_u32(&registry->places_waiting)};
}

void RaiseFlag(DatabaseShared *database, uint32 flag) {
    pg_atomic_fetch_or_u32(&database->processes.flags, flag & ~static_cast<uint32>(kFlagSubscribed));
    if ((flag & kFlagSubscribed) != 0) WantConsumer(database, Consumer::kDispatcher);
    if ((flag & (kFlagSubscribed | kFlagReloadAnnouncer)) == 0) return;
    uint32 no = static_cast<uint32>(Want::kNo);
    if (pg_atomic_compare_exchange_u32(&database->processes.consumers[static_cast<int>(Consumer::kAnnouncer)].wanted,
                                       &no, static_cast<uint32>(Want::kLook)))
        WakeLauncher();
}

void WakeConsumer(DatabaseShared *database, Consumer consumer) {
    const int place = static_cast<int>(consumer);
    Wake(&database->processes.consumers[place].proc, &database->processes.consumers[place].woken);
}

bool ConsumerRuns(DatabaseShared *database, Consumer consumer) {
    return pg_atomic_read_u32(&database->processes.consumers[static_cast<int>(consumer)].proc) != 0;
}

void WakeLauncher() { Wake(&registry->launcher, &registry->launcher_woken); }

void SetLauncher(int proc_number, int pid) {
    pg_atomic_write_u32(&registry->launcher, pid == 0 ? 0 : static_cast<uint32>(proc_number) + 1);
    pg_atomic_write_u32(&registry->launcher_pid, static_cast<uint32>(pid));
    BeginLauncherTurn();
}

int LauncherPid() { return static_cast<int>(pg_atomic_read_u32(&registry->launcher_pid)); }

bool BecomeConsumer(DatabaseShared *database, Consumer consumer) {
    uint32 nobody = 0;
    int place = static_cast<int>(consumer);
    if (!pg_atomic_compare_exchange_u32(&database->processes.consumers[place].proc, &nobody,
                                        static_cast<uint32>(pg::OwnProcNumber()) + 1))
        return false;
    own_database = database;
    own_consumer = place;
    pg_atomic_write_u32(&database->processes.consumers[place].pid, static_cast<uint32>(MyProcPid));
    pg_atomic_write_u64(&database->processes.consumers[place].started_at, static_cast<uint64>(GetCurrentTimestamp()));
    on_shmem_exit(LeaveConsumer, static_cast<Datum>(0));
    BeginTurn(database);
    return true;
}

void BeginTurn(DatabaseShared *database) {
    pg_atomic_write_u64(&database->processes.consumers[own_consumer].busy_since,
                        static_cast<uint64>(GetCurrentTimestamp()));
    ForgetWakes(&database->processes.consumers[own_consumer].woken);
}

bool SleepAfterTurn(DatabaseShared *database, long milliseconds) {
    pg_atomic_write_u64(&database->processes.consumers[own_consumer].turned_at,
                        static_cast<uint64>(GetCurrentTimestamp()));
    pg_atomic_write_u64(&database->processes.consumers[own_consumer].busy_since, 0);
    return SleepUnlessWoken(&database->processes.consumers[own_consumer].woken, milliseconds);
}

void BeginLauncherTurn() {
    pg_atomic_write_u64(&registry->launcher_busy_since, static_cast<uint64>(GetCurrentTimestamp()));
    ForgetWakes(&registry->launcher_woken);
}

void SleepAfterLauncherTurn(long milliseconds) {
    pg_atomic_write_u64(&registry->launcher_turned_at, static_cast<uint64>(GetCurrentTimestamp()));
    pg_atomic_write_u64(&registry->launcher_busy_since, 0);
    (void)SleepUnlessWoken(&registry->launcher_woken, milliseconds);
}

Turns LauncherTurns() {
    return {static_cast<TimestampTz>(pg_atomic_read_u64(&registry->launcher_busy_since)),
            static_cast<TimestampTz>(pg_atomic_read_u64(&registry->launcher_turned_at))};
}

Size DatabaseMemory() { return MAXALIGN(sizeof(RegistryShared)); }

void InitDatabaseMemory() {
    bool found;
    registry = static_cast<RegistryShared *>(ShmemInitStruct("pg_herald databases", sizeof(RegistryShared), &found));
    if (found) return;
    std::memset(static_cast<void *>(registry), 0, sizeof(RegistryShared));
    InitWords(registry->launcher, registry->launcher_pid, registry->launcher_woken, registry->launcher_busy_since,
              registry->launcher_turned_at, registry->starved, registry->places_needed, registry->places_databases,
              registry->places_waiting);
    for (DatabaseShared &entry : registry->databases) entry.ForEachPart([](auto &part) { part.Init(); });
}

}  // namespace herald
