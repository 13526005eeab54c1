#include <gtest/gtest.h>

#include "core/batch_size.hpp"

namespace herald::core {
namespace {

constexpr Microseconds kBatchTime = 5000;

// Full batches of tasks that take `each` microseconds.
void RunCalm(BatchSize &size, int batches, Microseconds each) {
    for (int i = 0; i < batches; ++i)
        size.NoteCalm(size.Limit(), each * static_cast<Microseconds>(size.Limit()), kBatchTime);
}

TEST(BatchSize, StartsWithOneTask) { EXPECT_EQ(BatchSize().Limit(), 1u); }

TEST(BatchSize, DoublesWithEachBatchOfQuickTasks) {
    BatchSize size;
    for (const std::size_t limit : {2u, 4u, 8u, 16u, 32u, 32u}) {
        RunCalm(size, 1, 10);
        EXPECT_EQ(size.Limit(), limit);
    }
}

TEST(BatchSize, StaysWellUnderTheBatchTime) {
    BatchSize size;
    RunCalm(size, 50, 300);
    EXPECT_EQ(size.Limit(), 8u);
    RunCalm(size, 50, 1300);
    EXPECT_EQ(size.Limit(), 1u);
    RunCalm(size, 50, 10);
    EXPECT_EQ(size.Limit(), 32u);
}

TEST(BatchSize, SlowTasksAreNeverTogether) {
    BatchSize size;
    RunCalm(size, 50, 60'000'000);
    EXPECT_EQ(size.Limit(), 1u);
}

TEST(BatchSize, OneSlowBatchAmongMany) {
    BatchSize size;
    RunCalm(size, 20, 10);
    size.NoteCalm(32, 8000, kBatchTime);
    EXPECT_EQ(size.Limit(), 32u);
}

TEST(BatchSize, BatchThatWasNotFullDoesNotGrow) {
    BatchSize size;
    RunCalm(size, 2, 10);
    EXPECT_EQ(size.Limit(), 4u);
    for (int i = 0; i < 10; ++i) size.NoteCalm(3, 30, kBatchTime);
    EXPECT_EQ(size.Limit(), 4u);
    size.NoteCalm(0, 0, kBatchTime);
    EXPECT_EQ(size.Limit(), 4u);
}

TEST(BatchSize, TroubleHalvesIt) {
    BatchSize size;
    RunCalm(size, 5, 10);
    for (const std::size_t limit : {16u, 8u, 4u, 2u, 1u, 1u}) {
        size.NoteTrouble();
        EXPECT_EQ(size.Limit(), limit);
    }
}

TEST(BatchSize, TroubleThatComesBackIsTriedLessAndLess) {
    BatchSize size;
    int troubles = 0;
    // Two tasks together never go well.
    for (int i = 0; i < 2000; ++i) {
        if (size.Limit() > 1) {
            size.NoteTrouble();
            ++troubles;
        } else {
            size.NoteCalm(1, 10, kBatchTime);
        }
    }
    EXPECT_GT(troubles, 2);
    EXPECT_LT(troubles, 40);
}

TEST(BatchSize, RecoversFromTrouble) {
    BatchSize size;
    RunCalm(size, 5, 10);
    for (int i = 0; i < 100; ++i) size.NoteTrouble();
    RunCalm(size, 1000, 10);
    EXPECT_EQ(size.Limit(), 32u);
    // And nothing is left of it.
    size.NoteTrouble();
    RunCalm(size, 2, 10);
    EXPECT_EQ(size.Limit(), 32u);
}

}  // namespace
}  // namespace herald::core
