// See database.hpp. The registry is a plain array: a look-up costs a scan of the oids and happens once
// per process.

#include "outbox/database.hpp"

#include "outbox/locks.hpp"
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

// What waits for a lock in the middle of a turn takes the latch back. So it is noted, too. Written only where it makes a
// difference: all publishers come by here.
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
        pg_atomic_write_u32(&own_database->gauges_known, 0);
    }
    if (own_consumer == static_cast<int>(Consumer::kAnnouncer)) pg_atomic_write_u32(&own_database->announces, 0);
    pg_atomic_write_u64(&own_database->busy_since[own_consumer], 0);
    pg_atomic_write_u32(&own_database->consumer_pids[own_consumer], 0);
    pg_atomic_write_u32(&own_database->consumers[own_consumer], 0);
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
            entry->queues[0] = entry->queues[1] = QueueShared{};
            for (IdRange &range : entry->id_ranges) range = IdRange{};
            pg_atomic_write_u32(&entry->flags, 0);
            pg_atomic_write_u32(&entry->presence, static_cast<uint32>(Presence::kUnknown));
            pg_atomic_write_u32(&entry->leave_requests, 0);
            pg_atomic_write_u32(&entry->admitted, 0);
            pg_atomic_write_u32(&entry->open_tasks, 0);
            pg_atomic_write_u64(&entry->oldest_published_at, 0);
            pg_atomic_write_u32(&entry->unplaced, 0);
            pg_atomic_write_u32(&entry->heard_channels, 0);
            SetStarved(entry, 0);
            pg_atomic_write_u32(&entry->start_problem, 0);
            pg_atomic_write_u32(&entry->inert, 0);
            pg_atomic_write_u32(&entry->unlisted, 1);
            pg_atomic_write_u32(&entry->dead_prepared, 0);
            pg_atomic_write_u32(&entry->gauges_known, 0);
            pg_atomic_write_u32(&entry->announces, 0);
            pg_atomic_write_u32(&entry->segment, 0);
            pg_atomic_write_u32(&entry->segment_known, 0);
            pg_atomic_write_u64(&entry->dealing_stopped, 0);
            pg_atomic_write_u64(&entry->log_bytes, 0);
            pg_atomic_write_u64(&entry->parked_bytes, 0);
            pg_atomic_write_u64(&entry->log_held_since, 0);
            pg_atomic_write_u64(&entry->failing_since, 0);
            pg_atomic_write_u64(&entry->unrecorded_since, 0);
            pg_atomic_write_u32(&entry->dead_in_flight, 0);
            pg_atomic_fetch_add_u64(&entry->dead_epoch, 1);
            for (pg_atomic_uint64 &bytes : entry->pointer_bytes) pg_atomic_write_u64(&bytes, 0);
            for (int i = 0; i < kConsumers; i++) {
                pg_atomic_write_u32(&entry->wanted[i], static_cast<uint32>(Want::kLook));
                pg_atomic_write_u32(&entry->consumers[i], 0);
                pg_atomic_write_u32(&entry->consumer_pids[i], 0);
                pg_atomic_write_u32(&entry->left[i], 0);
                pg_atomic_write_u64(&entry->started_at[i], 0);
                pg_atomic_write_u64(&entry->busy_since[i], 0);
                pg_atomic_write_u64(&entry->turned_at[i], 0);
            }
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
    uint32 before = pg_atomic_exchange_u32(&database->starved, roles);
    if (before != roles)
        pg_atomic_fetch_add_u32(&registry->starved, static_cast<int32>(roles) - static_cast<int32>(before));
}

int StarvedElsewhere(DatabaseShared *database) {
    return static_cast<int>(pg_atomic_read_u32(&registry->starved)) -
           static_cast<int>(pg_atomic_read_u32(&database->starved));
}

void NoteAbsence(DatabaseShared *database, uint32 seen) {
    pg_atomic_write_u32(&database->presence, static_cast<uint32>(Presence::kAbsent));
    pg_memory_barrier();
    if (pg_atomic_read_u32(&database->extension_changes) != seen) {
        pg_atomic_write_u32(&database->presence, static_cast<uint32>(Presence::kUnknown));
        WakeLauncher();
        return;
    }
    // The other one may have looked just before, and sleeps for long.
    for (int i = 0; i < kConsumers; i++) WakeConsumer(database, static_cast<Consumer>(i));
}

void LookForExtension(DatabaseShared *database) {
    // What is there is looked after by its own processes; only "absent" is in doubt. The count comes
    // first, see NoteAbsence.
    pg_atomic_fetch_add_u32(&database->extension_changes, 1);
    uint32 absent = static_cast<uint32>(Presence::kAbsent);
    (void)pg_atomic_compare_exchange_u32(&database->presence, &absent, static_cast<uint32>(Presence::kUnknown));
    WakeLauncher();
}

void WantConsumer(DatabaseShared *database, Consumer consumer) {
    const int number = static_cast<int>(consumer);
    const uint32 yes = static_cast<uint32>(Want::kYes);
    // The launcher has been told.
    if (pg_atomic_read_u32(&database->wanted[number]) == yes) return;
    pg_atomic_write_u32(&database->wanted[number], yes);
    WakeLauncher();
}

bool IsWanted(const DatabaseShared *database, Consumer consumer) {
    return pg_atomic_read_u32(const_cast<pg_atomic_uint32 *>(&database->wanted[static_cast<int>(consumer)])) !=
           static_cast<uint32>(Want::kNo);
}

// Whoever wants a consumer first asks and then wants it: one of the two is seen here, or the launcher starts
// the next one.
bool GiveUpWork(DatabaseShared *database, Consumer consumer, uint32 flags, bool looked_only) {
    const int number = static_cast<int>(consumer);
    // Who was only to look may have been wanted since, by somebody who has left nothing here to see.
    uint32 look = static_cast<uint32>(Want::kLook);
    if (!looked_only)
        pg_atomic_write_u32(&database->wanted[number], static_cast<uint32>(Want::kNo));
    else if (!pg_atomic_compare_exchange_u32(&database->wanted[number], &look, static_cast<uint32>(Want::kNo)))
        return false;
    pg_memory_barrier();
    if ((pg_atomic_read_u32(&database->flags) & flags) == 0 &&
        (consumer == Consumer::kDispatcher || database->queues[number].length == 0))
        return true;
    pg_atomic_write_u32(&database->wanted[number], static_cast<uint32>(Want::kYes));
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
    pg_atomic_fetch_or_u32(&database->flags, flag & ~static_cast<uint32>(kFlagSubscribed));
    if ((flag & kFlagSubscribed) != 0) WantConsumer(database, Consumer::kDispatcher);
    if ((flag & (kFlagSubscribed | kFlagReloadAnnouncer)) == 0) return;
    uint32 no = static_cast<uint32>(Want::kNo);
    if (pg_atomic_compare_exchange_u32(&database->wanted[static_cast<int>(Consumer::kAnnouncer)], &no,
                                       static_cast<uint32>(Want::kLook)))
        WakeLauncher();
}

void WakeConsumer(DatabaseShared *database, Consumer consumer) {
    const int place = static_cast<int>(consumer);
    Wake(&database->consumers[place], &database->woken[place]);
}

bool ConsumerRuns(DatabaseShared *database, Consumer consumer) {
    return pg_atomic_read_u32(&database->consumers[static_cast<int>(consumer)]) != 0;
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
    if (!pg_atomic_compare_exchange_u32(&database->consumers[place], &nobody,
                                        static_cast<uint32>(pg::OwnProcNumber()) + 1))
        return false;
    own_database = database;
    own_consumer = place;
    pg_atomic_write_u32(&database->consumer_pids[place], static_cast<uint32>(MyProcPid));
    pg_atomic_write_u64(&database->started_at[place], static_cast<uint64>(GetCurrentTimestamp()));
    on_shmem_exit(LeaveConsumer, static_cast<Datum>(0));
    BeginTurn(database);
    return true;
}

void BeginTurn(DatabaseShared *database) {
    pg_atomic_write_u64(&database->busy_since[own_consumer], static_cast<uint64>(GetCurrentTimestamp()));
    ForgetWakes(&database->woken[own_consumer]);
}

bool SleepAfterTurn(DatabaseShared *database, long milliseconds) {
    pg_atomic_write_u64(&database->turned_at[own_consumer], static_cast<uint64>(GetCurrentTimestamp()));
    pg_atomic_write_u64(&database->busy_since[own_consumer], 0);
    return SleepUnlessWoken(&database->woken[own_consumer], milliseconds);
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
    pg_atomic_init_u32(&registry->launcher, 0);
    pg_atomic_init_u32(&registry->launcher_pid, 0);
    pg_atomic_init_u32(&registry->launcher_woken, 0);
    pg_atomic_init_u64(&registry->launcher_busy_since, 0);
    pg_atomic_init_u64(&registry->launcher_turned_at, 0);
    pg_atomic_init_u32(&registry->starved, 0);
    pg_atomic_init_u32(&registry->places_needed, 0);
    pg_atomic_init_u32(&registry->places_databases, 0);
    pg_atomic_init_u32(&registry->places_waiting, 0);
    for (DatabaseShared &entry : registry->databases) {
        SpinLockInit(&entry.id_lock);
        pg_atomic_init_u32(&entry.flags, 0);
        pg_atomic_init_u32(&entry.presence, 0);
        pg_atomic_init_u32(&entry.extension_changes, 0);
        for (pg_atomic_uint32 &word : entry.subscribed) pg_atomic_init_u32(&word, 0);
        pg_atomic_init_u32(&entry.leave_requests, 0);
        pg_atomic_init_u32(&entry.admitted, 0);
        pg_atomic_init_u32(&entry.open_tasks, 0);
        pg_atomic_init_u64(&entry.oldest_published_at, 0);
        pg_atomic_init_u32(&entry.unplaced, 0);
        pg_atomic_init_u32(&entry.heard_channels, 0);
        pg_atomic_init_u32(&entry.starved, 0);
        pg_atomic_init_u32(&entry.start_problem, 0);
        pg_atomic_init_u32(&entry.inert, 0);
        pg_atomic_init_u32(&entry.unlisted, 1);
        pg_atomic_init_u32(&entry.dead_prepared, 0);
        pg_atomic_init_u32(&entry.gauges_known, 0);
        pg_atomic_init_u32(&entry.announces, 0);
        pg_atomic_init_u32(&entry.segment, 0);
        pg_atomic_init_u64(&entry.dealing_stopped, 0);
        pg_atomic_init_u32(&entry.moves, 0);
        pg_atomic_init_u32(&entry.segment_known, 0);
        pg_atomic_init_u32(&entry.dead_in_flight, 0);
        pg_atomic_init_u64(&entry.dead_changes, 0);
        pg_atomic_init_u64(&entry.dead_epoch, 0);
        pg_atomic_init_u64(&entry.log_bytes, 0);
        pg_atomic_init_u64(&entry.parked_bytes, 0);
        pg_atomic_init_u64(&entry.log_held_since, 0);
        pg_atomic_init_u64(&entry.failing_since, 0);
        pg_atomic_init_u32(&entry.failing_step, 0);
        pg_atomic_init_u32(&entry.failing_code, 0);
        pg_atomic_init_u64(&entry.unrecorded_since, 0);
        pg_atomic_init_u32(&entry.unrecorded_code, 0);
        for (pg_atomic_uint64 &bytes : entry.pointer_bytes) pg_atomic_init_u64(&bytes, 0);
        pg_atomic_init_u64(&entry.turns_begun, 0);
        pg_atomic_init_u64(&entry.turns_ended, 0);
        for (int i = 0; i < kConsumers; i++) {
            pg_atomic_init_u32(&entry.wanted[i], 0);
            pg_atomic_init_u32(&entry.consumers[i], 0);
            pg_atomic_init_u32(&entry.consumer_pids[i], 0);
            pg_atomic_init_u32(&entry.woken[i], 0);
            pg_atomic_init_u32(&entry.left[i], 0);
            pg_atomic_init_u64(&entry.started_at[i], 0);
            pg_atomic_init_u64(&entry.busy_since[i], 0);
            pg_atomic_init_u64(&entry.turned_at[i], 0);
        }
    }
}

}  // namespace herald
