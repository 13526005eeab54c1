// One entry in shared memory per database in which the extension was seen: who consumes there, what
// the consumers were asked to do, and the heads of its two queues.
//
// A process asks another one for something by a flag and its latch; both may be set where an ERROR
// is not allowed (a commit callback).

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "port/atomics.h"
#include "storage/spin.h"
}

namespace herald {

inline constexpr int kMaxDatabases = 512;
inline constexpr uint32 kSubscribedBits = 1024;
inline constexpr uint32 kPointerShares = 64;
inline constexpr int kIdCounters = 9;
// How long tasks may be kept from being dealt so that a segment can be emptied.
inline constexpr TimestampTz kLongestStop = USECS_PER_SEC / 2;

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

enum class Consumer : int { kDispatcher = 0, kAnnouncer = 1 };
inline constexpr int kConsumers = 2;

// Whether a consumer is needed.
enum class Want : uint32 {
    kNo = 0,
    kYes = 1,
    kLook = 2,  // nobody asked for it, but it is to have a look
};

// What is known about the extension in a database.
enum class Presence : uint32 {
    kUnknown = 0,  // a dispatcher is to look
    kPresent = 1,  // it is installed
    kAbsent = 2,   // a dispatcher looked: it is not
};

// First and last entry of a queue of the outbox, as entry number + 1; 0: empty.
struct QueueShared {
    uint32 head;
    uint32 tail;
    uint32 length;
    uint64 linked;   // transactions that have put something here so far
    uint64 in_hand;  // the announcer works on entries of transactions up to this one; 0: on none
};

// Ids that may be handed out, those from `next` to `last`.
struct IdRange {
    Oid table;  // herald_internal.id_store as it was when they were taken from there; InvalidOid: there are none
    int64 next;
    int64 last;
};

struct DatabaseShared {
    // Guarded by the registry lock.
    Oid database;  // InvalidOid: entry free

    // Guarded by the outbox lock.
    QueueShared queues[kConsumers];
    uint32 cells;  // of the outbox, used by this database

    // Guarded by id_lock. Renewed by whoever draws ids and has the page of the table locked, see tables/id_store.cpp.
    slock_t id_lock;
    IdRange id_ranges[kIdCounters];

    // Atomic. Set by anyone, cleared by the consumer before it does what was asked.
    pg_atomic_uint32 flags;
    // Atomic. Written by the consumer itself at start and exit: its proc number + 1; 0: not running.
    pg_atomic_uint32 consumers[kConsumers];
    // Atomic. Written by the consumer itself.
    pg_atomic_uint32 consumer_pids[kConsumers];
    // Atomic. 1 where somebody has woken the consumer since its turn began. Set by who does, cleared by the consumer.
    pg_atomic_uint32 woken[kConsumers];
    // Atomic. 1 where announcements may be left to the announcer; written by it. One that is about to
    // leave takes no more.
    pg_atomic_uint32 announces;
    // Atomic, a Presence. Written by the dispatcher (present, absent) and by CREATE EXTENSION.
    pg_atomic_uint32 presence;
    // Atomic. Counts commits that may have created or dropped the extension: who looked before one of
    // them must not conclude that it is absent.
    pg_atomic_uint32 extension_changes;
    // Atomic. Number of commands that need the database without our processes (DROP, RENAME,
    // CREATE ... TEMPLATE); while not 0, consumers and idle workers leave and nothing is started.
    pg_atomic_uint32 leave_requests;
    // Atomic, a Want. Lowered by the consumer itself, when it leaves because nothing is to be done; raised by anybody.
    pg_atomic_uint32 wanted[kConsumers];
    // Atomic, written by the launcher: how many consumers of this database have a place of max_worker_processes. 0:
    // they leave.
    pg_atomic_uint32 admitted;
    // Atomic, written by the dispatcher: tasks that wait or run, and when the oldest that waits was published
    // (a TimestampTz; 0: none waits). They stay when it leaves.
    pg_atomic_uint32 open_tasks;
    pg_atomic_uint64 oldest_published_at;
    // Atomic, written by the dispatcher: subscriptions that have found no place for their statistics.
    pg_atomic_uint32 unplaced;
    // Atomic, written by the announcer: channels that it LISTENs to. What is NOTIFYed there while it is not running
    // is not stored.
    pg_atomic_uint32 heard_channels;
    // Atomic. Number of roles that have waited too long for their first worker; see SetStarved.
    pg_atomic_uint32 starved;
    // Atomic. One bit per channel id modulo kSubscribedBits that has subscriptions; written by the
    // dispatcher before the scan that finds what was published by then. Without its bit a publisher
    // need not wake the dispatcher.
    pg_atomic_uint32 subscribed[kSubscribedBits / 32];
    // Atomic. Why the dispatcher can't start workers (a StartProblem), for herald.status().
    pg_atomic_uint32 start_problem;
    // Atomic. Bytes of large payloads kept, by a hash of the role; see pointer/pointer_store.hpp. Added to by
    // publishers, set by the announcer.
    pg_atomic_uint64 pointer_bytes[kPointerShares];
    // Atomic, written by the announcer: the log segment that new messages go to; a TimestampTz, until
    // when no task may be dealt, because a segment is to be emptied (0: not so); how much the log takes; and a TimestampTz, since when a
    // segment could not be emptied (0: not so).
    pg_atomic_uint32 segment;
    pg_atomic_uint32 segment_known;    // 1: known since the server has started, set by the first announcer
    pg_atomic_uint64 dealing_stopped;  // at most kLongestStop ahead
    // Atomic, counted up by the announcer with each move of tasks from the log: a task dealt with an earlier
    // number may not be where it was.
    pg_atomic_uint32 moves;
    pg_atomic_uint64 log_bytes;  // with what is parked
    pg_atomic_uint64 parked_bytes;
    pg_atomic_uint64 log_held_since;
    // Atomic. Transactions that change dead letters and are in their commit, those that have told of it, and the
    // epoch of their numbers: see stats/dead_counts.hpp.
    pg_atomic_uint32 dead_in_flight;
    pg_atomic_uint64 dead_changes;
    pg_atomic_uint64 dead_epoch;
    // Atomic. Not 0 where prepared transactions may have something for the consumers of which the outbox doesn't know.
    // Counted up by a transaction that is prepared and finds no room for it; set to 0 by the dispatcher, see prepared.hpp.
    pg_atomic_uint32 unlisted;
    // Atomic. Prepared transactions in the outbox that change dead letters, or may. Counted up by whoever puts one
    // there, down by the dispatcher.
    pg_atomic_uint32 dead_prepared;
    // Atomic. 1 where the subscriptions belong to another cluster or database and must be activated.
    pg_atomic_uint32 inert;
    // Atomic. 1 where the consumer has left because it was not wanted, which is no failure; written by itself,
    // cleared by the launcher.
    pg_atomic_uint32 left[kConsumers];
    // Atomic, each a TimestampTz written by the consumer itself. When the turn began that it is in (0: it sleeps), and
    // when its last one ended.
    pg_atomic_uint64 busy_since[kConsumers];
    pg_atomic_uint64 turned_at[kConsumers];
    // Atomic, written by the announcer. Since when a part of its turns fails, a TimestampTz (0: none does), which
    // (an AnnouncerStep), and its SQLSTATE.
    pg_atomic_uint64 failing_since;
    pg_atomic_uint32 failing_step;
    pg_atomic_uint32 failing_code;
    // Atomic, written by the dispatcher. Since when outcomes of tasks can't be recorded, a TimestampTz (0: they can), and
    // the SQLSTATE.
    pg_atomic_uint64 unrecorded_since;
    pg_atomic_uint32 unrecorded_code;
    // Atomic, a TimestampTz. When the consumers started; written by themselves.
    pg_atomic_uint64 started_at[kConsumers];
    // Atomic. 1 where a dispatcher runs and has read everything once, so that its gauges say how much waits; written by
    // it.
    pg_atomic_uint32 gauges_known;
    // Atomic. Turns of the dispatcher begun and ended, written by it: when a turn that began after some
    // moment has ended, everything committed by that moment is in its gauges.
    pg_atomic_uint64 turns_begun;
    pg_atomic_uint64 turns_ended;
};

inline bool HasSubscribers(DatabaseShared *database, int32 channel_id) {
    uint32 bit = static_cast<uint32>(channel_id) % kSubscribedBits;
    return (pg_atomic_read_u32(&database->subscribed[bit / 32]) >> (bit % 32) & 1) != 0;
}

// Notes that the extension is absent, unless it may have been created since `extension_changes` was
// `seen`.
void NoteAbsence(DatabaseShared *database, uint32 seen);
// Has the launcher look for the extension where it was absent: it may have been created. Safe in a commit
// callback.
void LookForExtension(DatabaseShared *database);

enum class StartProblem : uint32 { kNone = 0, kNoWorkerProcess = 1, kNoSlot = 2, kFailed = 3 };

// What the announcer does in a turn.
enum class AnnouncerStep : uint32 { kReload = 0, kStore, kAnnounce, kPurge, kRotate };

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
    return pg_atomic_read_u32(&database->wanted[static_cast<int>(consumer)]) == static_cast<uint32>(Want::kLook);
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
inline bool Announces(DatabaseShared *database) { return pg_atomic_read_u32(&database->announces) != 0; }

// True where the gauges of the database's subscriptions say what waits.
inline bool GaugesKnown(Oid database) {
    DatabaseShared *entry = FindDatabase(database);
    return entry != nullptr && pg_atomic_read_u32(&entry->gauges_known) != 0;
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
