// The bucket of a number is its highest bit and the two bits below it, so finding it takes a few
// instructions and no floating point. Below 4 microseconds some buckets hold no whole number and
// stay empty, which costs nothing and keeps the formula free of exceptions.

#include "core/histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace herald::core {

int BucketOf(std::int64_t microseconds) {
    if (microseconds <= 1) return 0;
    const auto value = static_cast<std::uint64_t>(microseconds);
    const int power = std::bit_width(value) - 1;
    const int quarter = static_cast<int>(power >= 2 ? value >> (power - 2) : value << (2 - power)) & 3;
    return std::min(4 * power + quarter, kHistogramBuckets - 1);
}

double BucketMiddle(int bucket) {
    bucket = std::clamp(bucket, 0, kHistogramBuckets - 1);
    const double width = std::ldexp(0.25, bucket / 4);
    const double lowest = width * (4 + bucket % 4);
    // The middle of the whole numbers in the bucket: exact where there is only one.
    return lowest + std::max(width - 1, 0.0) / 2;
}

std::optional<double> Percentile(const std::uint64_t *counts, double fraction) {
    std::uint64_t total = 0;
    for (int bucket = 0; bucket < kHistogramBuckets; ++bucket) total += counts[bucket];
    if (total == 0) return std::nullopt;

    std::uint64_t rank = total;
    // Not below 1 for the product also sends a NaN to the largest latency, the careful answer.
    const double product = std::ceil(fraction * static_cast<double>(total));
    if (product < static_cast<double>(total)) rank = product < 1 ? 1 : static_cast<std::uint64_t>(product);

    std::uint64_t reached = 0;
    int bucket = 0;
    for (; bucket < kHistogramBuckets - 1; ++bucket) {
        reached += counts[bucket];
        if (reached >= rank) break;
    }
    return BucketMiddle(bucket);
}

}  // namespace herald::core
