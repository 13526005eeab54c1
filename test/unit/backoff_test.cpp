// Retry delays: growth, bounds, jitter, and inputs that no sane person would type.

#include "core/backoff.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace herald::core {
namespace {

constexpr Microseconds kSecond = 1'000'000;
constexpr Microseconds kHour = 3600 * kSecond;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(Backoff, GrowsByTheFactor) {
    const BackoffPolicy policy{kSecond, 2, kHour};
    EXPECT_EQ(DelayAfter(policy, 1, 0), kSecond);
    EXPECT_EQ(DelayAfter(policy, 2, 0), 2 * kSecond);
    EXPECT_EQ(DelayAfter(policy, 11, 0), 1024 * kSecond);
    EXPECT_EQ(DelayAfter({kSecond, 1, kHour}, 50, 0), kSecond);
    EXPECT_EQ(DelayAfter({kSecond, 1.5, kHour}, 3, 0), 2'250'000);
}

TEST(Backoff, NeverExceedsTheLongestDelay) {
    const BackoffPolicy policy{kSecond, 2, kHour};
    EXPECT_EQ(DelayAfter(policy, 13, 0), kHour);
    EXPECT_EQ(DelayAfter(policy, 12, 0.9999), 2048 * kSecond + 511'948'800);
    EXPECT_EQ(DelayAfter({kSecond, 2, 1024 * kSecond}, 11, 0.5), 1024 * kSecond);
    EXPECT_EQ(DelayAfter({kHour, 2, kSecond}, 1, 0), kSecond);
    // Beyond what an integer, and what a double, can hold.
    EXPECT_EQ(DelayAfter(policy, 100, 0), kHour);
    EXPECT_EQ(DelayAfter(policy, std::numeric_limits<std::int32_t>::max(), 0), kHour);
    EXPECT_EQ(DelayAfter({1, kInfinity, kHour}, 2, 0), kHour);
}

TEST(Backoff, JitterLiesBetweenTheExactValueAndAQuarterAbove) {
    const BackoffPolicy policy{kSecond, 2, kHour};
    for (int step = 0; step < 1000; ++step) {
        const Microseconds delay = DelayAfter(policy, 3, step / 1000.0);
        EXPECT_GE(delay, 4 * kSecond);
        EXPECT_LT(delay, 5 * kSecond);
    }
    EXPECT_EQ(DelayAfter(policy, 3, 0.5), 4 * kSecond + kSecond / 2);
}

TEST(Backoff, AnyInputStaysInBounds) {
    const double numbers[] = {-kInfinity, -1, -0.0, 0, 0.5, 1, 1.0000001, 2, 1e300, kInfinity, kNan};
    const Microseconds delays[] = {
        std::numeric_limits<Microseconds>::min(), -1, 0, 1, kSecond, std::numeric_limits<Microseconds>::max() - 1,
        std::numeric_limits<Microseconds>::max()};
    const std::int32_t attempts[] = {std::numeric_limits<std::int32_t>::min(), -1, 0, 1, 2, 1000,
                                     std::numeric_limits<std::int32_t>::max()};
    for (const double factor : numbers)
        for (const double random : numbers)
            for (const Microseconds first : delays)
                for (const Microseconds longest : delays)
                    for (const std::int32_t attempt : attempts) {
                        const Microseconds delay = DelayAfter({first, factor, longest}, attempt, random);
                        ASSERT_GE(delay, 0);
                        ASSERT_LE(delay, std::max<Microseconds>(longest, 0));
                        ASSERT_GE(delay, std::max<Microseconds>(std::min(first, longest), 0));
                    }
}

TEST(Backoff, LargeFirstDelayIsNotRoundedDown) {
    const Microseconds odd = (Microseconds{1} << 60) + 1;
    EXPECT_EQ(DelayAfter({odd, 2, std::numeric_limits<Microseconds>::max()}, 1, 0), odd);
}

TEST(Backoff, ShrinkingFactorCountsAsOne) {
    EXPECT_EQ(DelayAfter({kSecond, 0.5, kHour}, 4, 0), kSecond);
    EXPECT_EQ(DelayAfter({kSecond, kNan, kHour}, 4, kNan), kSecond);
}

}  // namespace
}  // namespace herald::core
