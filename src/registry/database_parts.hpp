// What stands in shared memory about one database, a part for each owner. Every part has Init(), for memory that is
// new, and Reset(), for an entry that a database gets, which another one may have had before. All is atomic unless it says who guards it.

#pragma once

#include "registry/shared_words.hpp"

extern "C" {
#include "datatype/timestamp.h"
#include "storage/spin.h"
}

namespace herald {

inline constexpr uint32 kSubscribedBits = 1024;
inline constexpr uint32 kPointerShares = 64;
inline constexpr int kIdCounters = 9;
// How long tasks may be kept from being dealt so that a segment can be emptied.
inline constexpr TimestampTz kLongestStop = USECS_PER_SEC / 2;

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

enum class StartProblem : uint32 { kNone = 0, kNoWorkerProcess = 1, kNoSlot = 2, kFailed = 3 };

// What the announcer does in a turn.
enum class AnnouncerStep : uint32 { kReload = 0, kStore, kAnnounce, kPurge, kRotate };

// First and last entry of a queue of the outbox, as entry number + 1; 0: empty.
struct QueueShared {
    uint32 head;
    uint32 tail;
    uint32 length;
    uint64 linked;   // transactions that have put something here so far
    uint64 in_hand;  // the announcer works on entries of transactions up to this one; 0: on none
};

struct OutboxShared {
    // Guarded by the outbox lock.
    QueueShared queues[kConsumers];
    uint32 cells;  // of the outbox, used by this database
    // Not 0 where prepared transactions may have something for the consumers of which the outbox doesn't know.
    // Counted up by a transaction that is prepared and finds no room for it; set to 0 by the dispatcher, see prepared.hpp.
    pg_atomic_uint32 unlisted;
    // Prepared transactions in the outbox that change dead letters, or may. Counted up by whoever puts one there, down
    // by the dispatcher.
    pg_atomic_uint32 dead_prepared;

    void Init() { InitWords(unlisted, dead_prepared); }
    void Reset() {
        for (QueueShared &queue : queues) queue = QueueShared{};
        ClearWords(dead_prepared);
        // There may be some of before the server was started.
        pg_atomic_write_u32(&unlisted, 1);
    }
};

// Ids that may be handed out, those from `next` to `last`.
struct IdRange {
    Oid table;  // herald_internal.id_store as it was when they were taken from there; InvalidOid: there are none
    int64 next;
    int64 last;
};

struct IdsShared {
    // Guarded by `lock`. Renewed by whoever draws ids and has the page of the table locked, see tables/id_store.cpp.
    slock_t lock;
    IdRange ranges[kIdCounters];

    void Init() { SpinLockInit(&lock); }
    void Reset() {
        for (IdRange &range : ranges) range = IdRange{};
    }
};

// Dispatcher or announcer. Written by itself, but for what says otherwise.
struct ConsumerShared {
    pg_atomic_uint32 proc;  // its proc number + 1; 0: not running
    pg_atomic_uint32 pid;
    // 1 where somebody has woken it since its turn began. Set by who does, cleared by itself.
    pg_atomic_uint32 woken;
    // A Want. Lowered by itself, when it leaves because nothing is to be done; raised by anybody.
    pg_atomic_uint32 wanted;
    // 1 where it has left because it was not wanted, which is no failure; cleared by the launcher.
    pg_atomic_uint32 left;
    // Each a TimestampTz: when it started, when the turn began that it is in (0: it sleeps), when its last one ended.
    pg_atomic_uint64 started_at;
    pg_atomic_uint64 busy_since;
    pg_atomic_uint64 turned_at;

    void Init() { InitWords(proc, pid, woken, wanted, left, started_at, busy_since, turned_at); }
    void Reset() {
        ClearWords(proc, pid, woken, left, started_at, busy_since, turned_at);
        pg_atomic_write_u32(&wanted, static_cast<uint32>(Want::kLook));
    }
};

struct ProcessesShared {
    // DatabaseFlags. Set by anyone, cleared by the consumer before it does what was asked.
    pg_atomic_uint32 flags;
    ConsumerShared consumers[kConsumers];
    // 1 where announcements may be left to the announcer; written by it. One that is about to leave takes no more.
    pg_atomic_uint32 announces;
    // How many consumers of this database have a place of max_worker_processes; written by the launcher. 0: they leave.
    pg_atomic_uint32 admitted;
    // Commands that need the database without our processes (DROP, RENAME, CREATE ... TEMPLATE); while not 0,
    // consumers and idle workers leave and nothing is started.
    pg_atomic_uint32 leave_requests;

    void Init() {
        InitWords(flags, announces, admitted, leave_requests);
        for (ConsumerShared &consumer : consumers) consumer.Init();
    }
    void Reset() {
        ClearWords(flags, announces, admitted, leave_requests);
        for (ConsumerShared &consumer : consumers) consumer.Reset();
    }
};

struct ExtensionShared {
    // A Presence. Written by the dispatcher (present, absent) and by CREATE EXTENSION.
    pg_atomic_uint32 presence;
    // Commits that may have created or dropped the extension: who looked before one of them must not conclude that
    // it is absent. Never set back: an earlier number must not come again.
    pg_atomic_uint32 changes;
    // 1 where the subscriptions belong to another cluster or database and must be activated; written by the dispatcher.
    pg_atomic_uint32 inert;

    void Init() { InitWords(presence, changes, inert); }
    void Reset() {
        ClearWords(inert);
        pg_atomic_write_u32(&presence, static_cast<uint32>(Presence::kUnknown));
    }
};

// Written by the dispatcher.
struct DispatcherShared {
    // Tasks that wait or run, and when the oldest that waits was published (a TimestampTz; 0: none waits). They stay
    // when it leaves.
    pg_atomic_uint32 open_tasks;
    pg_atomic_uint64 oldest_published_at;
    pg_atomic_uint32 unplaced;  // subscriptions that have found no place for their statistics
    pg_atomic_uint32 starved;   // roles that have waited too long for their first worker; see SetStarved
    // One bit per channel id modulo kSubscribedBits that has subscriptions; written before the scan that finds what was
    // published by then. Without its bit a publisher need not wake the dispatcher.
    pg_atomic_uint32 subscribed[kSubscribedBits / 32];
    pg_atomic_uint32 start_problem;  // a StartProblem: why workers can't be started
    // Since when outcomes of tasks can't be recorded, a TimestampTz (0: they can), and the SQLSTATE.
    pg_atomic_uint64 unrecorded_since;
    pg_atomic_uint32 unrecorded_code;
    pg_atomic_uint32 gauges_known;  // 1 where it runs and has read everything once: its gauges say how much waits
    // Turns begun and ended: when a turn that began after some moment has ended, everything committed by that moment
    // is in the gauges. Never set back: somebody may compare.
    pg_atomic_uint64 turns_begun;
    pg_atomic_uint64 turns_ended;

    void Init() {
        InitWords(open_tasks, oldest_published_at, unplaced, starved, subscribed, start_problem, unrecorded_since,
                  unrecorded_code, gauges_known, turns_begun, turns_ended);
    }
    // Not `starved`, which is part of a sum.
    void Reset() {
        ClearWords(open_tasks, oldest_published_at, unplaced, subscribed, start_problem, unrecorded_since,
                   unrecorded_code, gauges_known);
    }
};

// Written by the announcer.
struct AnnouncerShared {
    pg_atomic_uint32
        heard_channels;  // that it LISTENs to. What is NOTIFYed there while it is not running is not stored.
    // Since when a part of its turns fails, a TimestampTz (0: none does), which (an AnnouncerStep), and its SQLSTATE.
    pg_atomic_uint64 failing_since;
    pg_atomic_uint32 failing_step;
    pg_atomic_uint32 failing_code;

    void Init() { InitWords(heard_channels, failing_since, failing_step, failing_code); }
    void Reset() { ClearWords(heard_channels, failing_since, failing_step, failing_code); }
};

// Written by the announcer, which rotates the log.
struct LogShared {
    pg_atomic_uint32 segment;          // that new messages go to
    pg_atomic_uint32 segment_known;    // 1: known since the server has started, set by the first announcer
    pg_atomic_uint64 dealing_stopped;  // until when no task may be dealt, so that a segment can be emptied, at most
                                       // kLongestStop ahead; 0: not so
    // Counted up with each move of tasks from the log: a task dealt with an earlier number may not be where it was.
    // Never set back.
    pg_atomic_uint32 moves;
    pg_atomic_uint64 bytes;  // with what is parked
    pg_atomic_uint64 parked_bytes;
    pg_atomic_uint64 held_since;  // a TimestampTz, since when a segment could not be emptied; 0: not so

    void Init() { InitWords(segment, segment_known, dealing_stopped, moves, bytes, parked_bytes, held_since); }
    void Reset() { ClearWords(segment, segment_known, dealing_stopped, bytes, parked_bytes, held_since); }
};

struct PointersShared {
    // Bytes of large payloads kept, by a hash of the role; see publish/pointer_store.hpp. Added to by publishers, set by
    // the announcer.
    pg_atomic_uint64 bytes[kPointerShares];

    void Init() { InitWords(bytes); }
    void Reset() { ClearWords(bytes); }
};

// Transactions that change dead letters and are in their commit, those that have told of it, and the epoch of their
// numbers: see stats/dead_counts.hpp. The last two are never set back.
struct DeadLettersShared {
    pg_atomic_uint32 in_flight;
    pg_atomic_uint64 changes;
    pg_atomic_uint64 epoch;

    // All numbers of subscriptions are in doubt: they are counted again when somebody asks.
    void Forget() { pg_atomic_fetch_add_u64(&epoch, 1); }
    void Init() { InitWords(in_flight, changes, epoch); }
    void Reset() {
        ClearWords(in_flight);
        Forget();
    }
};

}  // namespace herald
