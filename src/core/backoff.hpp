// When a failed task runs again: exponential, bounded, with jitter so that tasks that failed
// together do not come back together.

#pragma once

#include <cstdint>

#include "core/task.hpp"

namespace herald::core {

struct BackoffPolicy {
    Microseconds first_delay;  // before the second attempt
    double factor;             // >= 1; each further delay is this many times longer
    Microseconds longest_delay;
};

// The delay after failed attempt number `attempt` (1 is the first). `random` is in [0, 1): the
// delay lies between the exact exponential value and a quarter above it, never below it, and never
// above longest_delay. Any input, also infinities and huge attempts, gives a delay in
// [0, longest_delay].
Microseconds DelayAfter(const BackoffPolicy &policy, std::int32_t attempt, double random);

}  // namespace herald::core
