// Arithmetic of retry delays. Everything is done in double and clamped before the way back to
// integers, because a conversion out of range is undefined behaviour and the policy comes from
// numbers that a user typed.

#include "core/backoff.hpp"

#include <algorithm>
#include <cmath>

namespace herald::core {

Microseconds DelayAfter(const BackoffPolicy &policy, std::int32_t attempt, double random) {
    const Microseconds longest = std::max<Microseconds>(policy.longest_delay, 0);
    // Also keeps 0 * infinity, which is not a number, out of what follows.
    if (policy.first_delay <= 0 || longest == 0) return 0;

    // Written so that a NaN takes the safe branch: no growth, no jitter.
    const double factor = policy.factor > 1 ? policy.factor : 1;
    const double jitter = random > 0 ? std::min(random, 1.0) / 4 : 0;
    const double exponent = attempt > 1 ? static_cast<double>(attempt) - 1 : 0;

    const double delay = static_cast<double>(policy.first_delay) * std::pow(factor, exponent) * (1 + jitter);
    if (!(delay < static_cast<double>(longest))) return longest;
    // Beyond 2^53 the double may have rounded below the first delay.
    return std::clamp(static_cast<Microseconds>(delay), std::min(policy.first_delay, longest), longest);
}

}  // namespace herald::core
