// See batch_timer.hpp. A process that was kept from running for a while finds that its time is over when it
// runs again; so the rest of the time is counted from then on, or a task would be cancelled that needed
// some microseconds more.

#include "pg/pg.hpp"

#include "settings.hpp"
#include "worker/batch_timer.hpp"

extern "C" {
#include "storage/latch.h"
#include "utils/timeout.h"
}

#include <csignal>

namespace herald {

namespace {

TimeoutId timer = MAX_TIMEOUTS;
bool running = false;
// Written by the signal handler.
volatile sig_atomic_t over = 0;
volatile sig_atomic_t armed = 0;
volatile sig_atomic_t cut = 0;

void OnTimer() {
    if (!over) {
        over = 1;
        return;
    }
    if (!armed) return;
    cut = 1;
    // As the server does it at the end of statement_timeout.
    InterruptPending = true;
    QueryCancelPending = true;
    SetLatch(MyLatch);
}

}  // namespace

void InitBatchTimer() { timer = RegisterTimeout(USER_TIMEOUT, OnTimer); }

void StartBatchTimer() {
    over = 0;
    running = true;
    const int rest = Max(settings::batch_time / 4, 1);  // milliseconds
    const TimestampTz most = settings::batch_time * INT64CONST(1000) * 3 / 4;
    enable_timeout_every(timer, GetCurrentTimestamp() + most, rest);
}

void StopBatchTimer() {
    if (running) disable_timeout(timer, false);
    running = false;
    over = 0;
}

bool BatchTimeOver() { return over != 0; }

void CutAtBatchTime() {
    cut = 0;
    armed = 1;
}

void LetRun() { armed = 0; }

bool WasCut() { return cut != 0; }

}  // namespace herald
