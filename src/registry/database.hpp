// One entry in shared memory per database in which the extension was seen: who consumes there, what
// the consumers were asked to do, and the heads of its two queues.
//
// A process asks another one for something by a flag and its latch; both may be set where an ERROR
// is not allowed (a commit callback).

#pragma once

#include "registry/database_parts.hpp"

namespace herald {

inline constexpr int kMaxDatabases = 512;
// What the dispatcher (or announcer) is asked to do at its next turn.
enum DatabaseFlag : uint32 {
    kFlagRescan = 1 << 0,           // read the log: messages were not announced through the outbox
    kFlagReload = 1 << 1,           // read channels and subscriptions again
    kFlagParked = 1 << 2,           // read the parked table again (a replay)
    kFlagReloadAnnouncer = 1 << 3,  // the announcer's part of kFlagReload
    kFlagMoved = 1 << 4,            // messages are no longer where they were: start anew
    kFlagSubscribed = 1 << 5,       // not kept: somebody may subscribe now, so a dispatcher is wanted
    kFlagDeadLetters = 1 << 6,      // only of prepared transactions: dead letters must be counted again
};

struct DatabaseShared {
    // Guarded by the registry lock.
    Oid database;  // InvalidOid: entry free

    OutboxShared outbox;
    IdsShared ids;
    ProcessesShared processes;
    ExtensionShared extension;
    DispatcherShared dispatcher;
    AnnouncerShared announcer;
    LogShared log;
    PointersShared pointers;
    DeadLettersShared dead_letters;

    // The parts in no order: `visit` takes any.
    template <class Visit>
    void ForEachPart(Visit visit) {
        visit(outbox);
        visit(ids);
        visit(processes);
        visit(extension);
        visit(dispatcher);
        visit(announcer);
        visit(log);
        visit(pointers);
        visit(dead_letters);
    }
};

inline bool HasSubscribers(DatabaseShared *database, int32 channel_id) {
    uint32 bit = static_cast<uint32>(channel_id) % kSubscribedBits;
    return (pg_atomic_read_u32(&database->dispatcher.subscribed[bit / 32]) >> (bit % 32) & 1) != 0;
}

// Notes that the extension is absent, unless it may have been created since `extension_changes` was
// `seen`.
void NoteAbsence(DatabaseShared *database, uint32 seen);
// Has the launcher look for the extension where it was absent: it may have been created. Safe in a commit
// callback.
void LookForExtension(DatabaseShared *database);

static_assert(std::is_standard_layout_v<DatabaseShared>);

// The entry of a database, or NULL where there is none (and none is free, when created).
DatabaseShared *FindDatabase(Oid database);
DatabaseShared *FindOrCreateDatabase(Oid database);
// The entry of this backend's database, created at need; ERROR 53400 where the registry is full.
// Kept in a static: one look-up per process.
DatabaseShared *ThisDatabase();
// Frees the entry of a database that no longer exists. Its queues are emptied.
void ForgetDatabase(Oid database);
// Calls `visit` for a copy of each oid in the registry.
int ListDatabases(Oid *databases, int capacity);

// How many roles of the database starve; by its dispatcher.
void SetStarved(DatabaseShared *database, uint32 roles);
// How many roles of other databases starve.
int StarvedElsewhere(DatabaseShared *database);

// Has a consumer started where it is not running. Safe in a commit callback.
void WantConsumer(DatabaseShared *database, Consumer consumer);
bool IsWanted(const DatabaseShared *database, Consumer consumer);
// How many consumers the database needs: none, the announcer, or both.
inline int ConsumersNeeded(const DatabaseShared *database) {
    if (IsWanted(database, Consumer::kDispatcher)) return 2;
    return IsWanted(database, Consumer::kAnnouncer) ? 1 : 0;
}
// Asked by a consumer when it starts.
inline bool MayOnlyLook(DatabaseShared *database, Consumer consumer) {
    return pg_atomic_read_u32(&database->processes.consumers[static_cast<int>(consumer)].wanted) ==
           static_cast<uint32>(Want::kLook);
}
// Called by a consumer that has found nothing to do: false where it was asked for something meanwhile, else it is no longer
// wanted and must leave. One that was started to look only (`looked_only`) stays also where it was wanted since then.
bool GiveUpWork(DatabaseShared *database, Consumer consumer, uint32 flags, bool looked_only);

// How the server's max_worker_processes suffice, as of the last look of the launcher.
struct PlaceGauges {
    uint32 needed;     // of max_worker_processes, with a single worker; 0: not known
    uint32 databases;  // that need consumers
    uint32 waiting;    // of them, that have found no place
};
void ShowPlaces(const PlaceGauges &gauges);  // by the launcher
PlaceGauges ReadPlaces();

// Safe in a commit callback. An announcer that is not running is started to have a look.
void RaiseFlag(DatabaseShared *database, uint32 flag);
void WakeConsumer(DatabaseShared *database, Consumer consumer);
bool ConsumerRuns(DatabaseShared *database, Consumer consumer);
inline bool Announces(DatabaseShared *database) { return pg_atomic_read_u32(&database->processes.announces) != 0; }

// True where the gauges of the database's subscriptions say what waits.
inline bool GaugesKnown(Oid database) {
    DatabaseShared *entry = FindDatabase(database);
    return entry != nullptr && pg_atomic_read_u32(&entry->dispatcher.gauges_known) != 0;
}

// The launcher's latch. Safe in a commit callback.
void WakeLauncher();
void SetLauncher(int proc_number, int pid);  // 0, 0: it ends
int LauncherPid();

// Called by a consumer at its start; announces its latch and takes it away at exit. False where
// there is a consumer already.
bool BecomeConsumer(DatabaseShared *database, Consumer consumer);

// By the consumer of this process: it begins to look for what is to be done; and it sleeps for so long, or until it is woken,
// but not where it was woken since the turn began. True where it was woken.
void BeginTurn(DatabaseShared *database);
bool SleepAfterTurn(DatabaseShared *database, long milliseconds);

// The launcher's turns, as those of consumers.
struct Turns {
    TimestampTz busy_since;  // 0: it sleeps
    TimestampTz turned_at;
};
void BeginLauncherTurn();
void SleepAfterLauncherTurn(long milliseconds);
Turns LauncherTurns();

Size DatabaseMemory();
void InitDatabaseMemory();  // in the shmem_startup_hook, under AddinShmemInitLock

}  // namespace herald
