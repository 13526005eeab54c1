// Which tasks are to blame when the server crashed. Workers note the task that they run in memory that
// outlives the server; who ends in an orderly way, or is only told to go because another process has
// crashed, takes its note back. What is still noted when the server starts again was running in a process
// that ended by itself, was killed, or went down with the machine.
//
// Rule: where one task is left, it is guilty: the attempt counts. Where several are, or one of which it is
// doubtful, those are guilty that had been suspected before; if none was, all of them are suspects from now on,
// uncharged, and run one at a time, so that the next crash tells. The subscriptions concerned rest for a while,
// longer from crash to crash, so that handlers that crash the server at every task don't keep it restarting.

#pragma once

#include <atomic>
#include <cstdint>

#include "core/task.hpp"

namespace herald::core {

// Memory shared with processes to come: plain data, all of it may be zero.

struct RunningNote {
    std::uint32_t database;
    std::uint32_t extension;  // whose ids these are
    std::int32_t pid;
    // Written last, so that what it counts is there: tasks that have begun, 0: nothing to answer for.
    std::atomic<std::uint32_t> begun;
    std::atomic<bool> committing;  // then it may have been any of those that have begun, else the last
    // It was told to go, but can't vouch for a process that helped it with a query.
    std::atomic<bool> doubtful;
    Task tasks[kMaxBatch];
};

struct Suspect {
    std::uint32_t database;  // 0: a free place
    std::uint32_t extension;
    Task task;
    std::int32_t crashes;  // not recorded yet
    std::int32_t pid;      // of its last run
    Microseconds crashed_at;
    bool guilty;
    std::int32_t moves;  // how often it was not where it was noted to be
};

// A subscription whose tasks are suspects or guilty.
struct Offender {
    std::uint32_t database;  // 0: a free place
    std::uint32_t extension;
    SubscriptionId subscription;
    std::int32_t crashes;  // in a row
    Microseconds crashed_at;
};

inline constexpr int kNotes = 256;  // one for each worker slot
inline constexpr int kSuspects = 256;
inline constexpr int kOffenders = 64;
// After this time without a crash the next one is the first again.
inline constexpr Microseconds kForgiven = 600 * std::int64_t{1000000};

struct CrashNotes {
    RunningNote running[kNotes];
    Suspect suspects[kSuspects];
    Offender offenders[kOffenders];
};

// Turns the notes of a server that is gone into suspects and offenders, and clears them. Returns the
// number of tasks noted. Where there is no place, the oldest is let go.
int JudgeCrash(CrashNotes *notes, Microseconds now) noexcept;

// How long a subscription rests after that many crashes in a row, and how long a task that has crashed
// the server as many times waits at least.
Microseconds RestAfter(std::int32_t crashes);

}  // namespace herald::core
