// Latency buckets: four per power of two of microseconds, so that a percentile is at most 19 % off.
// The counters themselves live in shared memory; this is only the arithmetic.

#pragma once

#include <cstdint>
#include <optional>

namespace herald::core {

inline constexpr int kHistogramBuckets = 160;  // 1 us .. about 12 days

// Bucket of a latency; negative ones (a clock that was set back) count as 0, huge ones as the last.
int BucketOf(std::int64_t microseconds);

// The middle of a bucket, in microseconds.
double BucketMiddle(int bucket);

// The latency in microseconds that `fraction` (0..1) of the counted events did not exceed; none
// without events. `counts` has kHistogramBuckets entries.
std::optional<double> Percentile(const std::uint64_t *counts, double fraction);

}  // namespace herald::core
