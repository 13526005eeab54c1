// Latency buckets: order, precision, and percentiles against the exact answer.

#include "core/histogram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace herald::core {
namespace {

using Counts = std::array<std::uint64_t, kHistogramBuckets>;

TEST(Histogram, FourBucketsPerPowerOfTwo) {
    EXPECT_EQ(BucketOf(1), 0);
    EXPECT_EQ(BucketOf(2), 4);
    EXPECT_EQ(BucketOf(3), 6);
    EXPECT_EQ(BucketOf(4), 8);
    EXPECT_EQ(BucketOf(5), 9);
    EXPECT_EQ(BucketOf(7), 11);
    EXPECT_EQ(BucketOf(1024), 40);
    EXPECT_EQ(BucketOf(1279), 40);
    EXPECT_EQ(BucketOf(1280), 41);
    EXPECT_EQ(BucketOf(2047), 43);
}

TEST(Histogram, ExtremesGoToTheFirstAndTheLastBucket) {
    EXPECT_EQ(BucketOf(0), 0);
    EXPECT_EQ(BucketOf(-1), 0);
    EXPECT_EQ(BucketOf(std::numeric_limits<std::int64_t>::min()), 0);
    EXPECT_EQ(BucketOf(std::numeric_limits<std::int64_t>::max()), kHistogramBuckets - 1);
    EXPECT_EQ(BucketOf((std::int64_t{1} << 40) - 1), kHistogramBuckets - 1);
    EXPECT_LT(BucketOf(std::int64_t{1} << 39), kHistogramBuckets - 1);
}

TEST(Histogram, MiddleIsCloseToEveryLatencyInTheBucket) {
    int last = 0;
    for (double exact = 1; exact < 1e12; exact = std::max(exact + 1, exact * 1.003)) {
        const auto latency = static_cast<std::int64_t>(exact);
        const int bucket = BucketOf(latency);
        ASSERT_GE(bucket, last);
        last = bucket;
        const double middle = BucketMiddle(bucket);
        ASSERT_LE(std::abs(middle - static_cast<double>(latency)) / static_cast<double>(latency), 0.19) << latency;
    }
    for (const std::int64_t small : {1, 2, 3, 4, 5, 6, 7})
        EXPECT_EQ(BucketMiddle(BucketOf(small)), static_cast<double>(small));
}

TEST(Histogram, MiddlesGrow) {
    for (int bucket = 1; bucket < kHistogramBuckets; ++bucket)
        EXPECT_GT(BucketMiddle(bucket), BucketMiddle(bucket - 1));
}

TEST(Histogram, NoEventsNoPercentile) {
    const Counts counts{};
    EXPECT_EQ(Percentile(counts.data(), 0.5), std::nullopt);
}

TEST(Histogram, PercentileOfFewEvents) {
    Counts counts{};
    counts[BucketOf(4)] = 1;
    counts[BucketOf(7)] = 1;
    EXPECT_EQ(Percentile(counts.data(), 0), 4);
    EXPECT_EQ(Percentile(counts.data(), 0.5), 4);
    EXPECT_EQ(Percentile(counts.data(), 0.51), 7);
    EXPECT_EQ(Percentile(counts.data(), 1), 7);
}

TEST(Histogram, PercentileOfSenselessFractions) {
    Counts counts{};
    counts[BucketOf(4)] = 10;
    counts[BucketOf(7)] = 10;
    EXPECT_EQ(Percentile(counts.data(), -1), 4);
    EXPECT_EQ(Percentile(counts.data(), 2), 7);
    EXPECT_EQ(Percentile(counts.data(), std::numeric_limits<double>::infinity()), 7);
    EXPECT_EQ(Percentile(counts.data(), std::numeric_limits<double>::quiet_NaN()), 7);
}

TEST(Histogram, PercentileIsAtMostNineteenPercentOff) {
    std::mt19937_64 random(7);
    std::lognormal_distribution<double> latencies(8, 2);
    std::vector<double> exact;
    Counts counts{};
    for (int event = 0; event < 20000; ++event) {
        const auto latency = static_cast<std::int64_t>(latencies(random)) + 1;
        exact.push_back(static_cast<double>(latency));
        ++counts[BucketOf(latency)];
    }
    std::sort(exact.begin(), exact.end());
    for (const double fraction : {0.01, 0.25, 0.5, 0.95, 0.99, 0.999, 1.0}) {
        const auto rank = static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(exact.size())));
        const double truth = exact[rank - 1];
        EXPECT_NEAR(*Percentile(counts.data(), fraction), truth, 0.19 * truth) << fraction;
    }
}

}  // namespace
}  // namespace herald::core
