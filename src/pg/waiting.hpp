// Waiting in a backend for what nobody wakes it for: in steps, and so that a cancel is heard.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace herald::pg {

inline constexpr int64 kWaitStep = 20 * 1000;  // microseconds between two looks at shared memory

// Sleeps for so many microseconds, at most a second, or until the latch is set. A cancel is an ERROR.
inline void SleepForStep(int64 microseconds) {
    constexpr int64 kLongest = 1000;  // milliseconds
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                    static_cast<long>(Min(microseconds / 1000 + 1, kLongest)), PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

// What is left of a timeout, in microseconds.
inline int64 Remaining(TimestampTz started, int64 timeout) { return timeout - (GetCurrentTimestamp() - started); }

}  // namespace herald::pg
