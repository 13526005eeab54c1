// The set of ids: membership against std::set, the floor, and what two million ids weigh.

#include "core/id_set.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <set>

namespace herald::core {
namespace {

TEST(IdSet, InsertsContainsErases) {
    IdSet set;
    EXPECT_FALSE(set.Contains(5));
    EXPECT_TRUE(set.Insert(5));
    EXPECT_FALSE(set.Insert(5));
    EXPECT_TRUE(set.Contains(5));
    EXPECT_FALSE(set.Contains(4));
    EXPECT_FALSE(set.Contains(5 + 4096));
    EXPECT_FALSE(set.Erase(6));
    EXPECT_TRUE(set.Erase(5));
    EXPECT_FALSE(set.Erase(5));
    EXPECT_FALSE(set.Contains(5));
    EXPECT_TRUE(set.Insert(5));
}

TEST(IdSet, TakesAnyId) {
    const std::int64_t ids[] = {std::numeric_limits<std::int64_t>::min(), -4097, -1, 0, 63, 64, 4095, 4096,
                                std::numeric_limits<std::int64_t>::max()};
    IdSet set;
    for (const std::int64_t id : ids) EXPECT_TRUE(set.Insert(id));
    for (const std::int64_t id : ids) EXPECT_FALSE(set.Insert(id));
    EXPECT_FALSE(set.Contains(-2));
    EXPECT_FALSE(set.Contains(1));
    for (const std::int64_t id : ids) EXPECT_TRUE(set.Erase(id));
    for (const std::int64_t id : ids) EXPECT_FALSE(set.Contains(id));
}

TEST(IdSet, FreesWhatIsErased) {
    IdSet set;
    for (std::int64_t id = 0; id < 1'000'000; ++id) set.Insert(id);
    const std::size_t full = set.MemoryBytes();
    for (std::int64_t id = 0; id < 1'000'000; ++id) EXPECT_TRUE(set.Erase(id));
    EXPECT_LT(set.MemoryBytes(), full / 10);
}

TEST(IdSet, TwoMillionIdsTakeAQuarterOfAMegabyte) {
    IdSet set;
    for (std::int64_t id = 0; id < 2'000'000; ++id) EXPECT_TRUE(set.Insert(7'000'000'000 + id));
    EXPECT_LT(set.MemoryBytes(), 300u * 1024);
    EXPECT_GT(set.MemoryBytes(), 250'000u);  // or MemoryBytes does not count
    EXPECT_FALSE(set.Contains(6'999'999'999));
    EXPECT_TRUE(set.Contains(7'000'000'000));
    EXPECT_TRUE(set.Contains(7'001'999'999));
    EXPECT_FALSE(set.Contains(7'002'000'000));
}

TEST(IdSet, AgreesWithAnOrdinarySet) {
    std::mt19937_64 random(3);
    IdSet set;
    std::set<std::int64_t> model;
    for (int step = 0; step < 100'000; ++step) {
        const auto id = static_cast<std::int64_t>(random() % 20'000) - 1000;
        switch (random() % 3) {
            case 0:
                ASSERT_EQ(set.Insert(id), model.insert(id).second);
                break;
            case 1:
                ASSERT_EQ(set.Erase(id), model.erase(id) > 0);
                break;
            case 2:
                ASSERT_EQ(set.Contains(id), model.contains(id));
                break;
        }
    }
}

}  // namespace
}  // namespace herald::core
