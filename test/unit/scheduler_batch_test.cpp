// How many tasks go to one worker together, and which.

#include "scheduler_fixture.hpp"

namespace herald::core {
namespace {

class SchedulerBatchTest : public SchedulerTest {
protected:
    void SetUp() override {
        scheduler.Configure({Config()});
        GrowBatches();
    }
};

Ids Range(MessageId first, MessageId last) {
    Ids ids;
    for (MessageId id = first; id <= last; ++id) ids.push_back(id);
    return ids;
}

TEST_F(SchedulerBatchTest, OneWorkerGetsAsManyAsFitABatch) {
    AddMessages(1, 40);
    EXPECT_EQ(TakeBatch(), Range(1, 32));
    EXPECT_EQ(TakeBatch(), Range(33, 40));
    EXPECT_EQ(TakeBatch(), Ids{});
}

TEST_F(SchedulerBatchTest, ReadyTasksAreSharedOutToTheWorkersThatWait) {
    AddMessages(1, 10);
    EXPECT_EQ(TakeBatch(3), Range(1, 4));
    EXPECT_EQ(TakeBatch(2), Range(5, 7));
    EXPECT_EQ(TakeBatch(1), Range(8, 10));
}

TEST_F(SchedulerBatchTest, FewTasksGoToOneWorkerEach) {
    AddMessages(1, 3);
    for (MessageId id = 1; id <= 3; ++id) EXPECT_EQ(TakeBatch(4), Ids{id});
    EXPECT_EQ(TakeBatch(4), Ids{});
}

TEST_F(SchedulerBatchTest, WorkersThatTheSubscriptionMayNotHaveGetNoShare) {
    scheduler.Configure({Config(kSub, 2)});
    AddMessages(1, 40);
    EXPECT_EQ(TakeBatch(4), Range(1, 20));
    EXPECT_EQ(TakeBatch(4), Range(21, 40));
}

TEST_F(SchedulerBatchTest, BatchCountsOnceForMaxConcurrency) {
    scheduler.Configure({Config(kSub, 2)});
    AddMessages(1, 100);
    EXPECT_EQ(TakeBatch(), Range(1, 32));
    EXPECT_EQ(DemandOf(kRole), 1u);
    EXPECT_EQ(TakeBatch(), Range(33, 64));
    EXPECT_EQ(DemandOf(kRole), 0u);
    EXPECT_EQ(TakeBatch(), Ids{});
    EXPECT_EQ(scheduler.Gauges(kSub)->running, 2u);
    EXPECT_EQ(scheduler.Gauges(kSub)->pending, 98u);
    // Until its last task has reported.
    for (MessageId id = 1; id < 32; ++id) scheduler.Finish(kSub, id);
    EXPECT_EQ(TakeBatch(), Ids{});
    scheduler.Finish(kSub, 32);
    EXPECT_EQ(TakeBatch(), Range(65, 96));
}

TEST_F(SchedulerBatchTest, AdoptedBatchCountsOnce) {
    scheduler.Configure({Config(kSub, 2)});
    scheduler.AdoptRunning({{kSub, Message(1), 0, 0, false}, {kSub, Message(2), 0, 0, false}});
    EXPECT_EQ(scheduler.Gauges(kSub)->running, 1u);
    AddMessages(1, 3);
    EXPECT_EQ(TakeBatch(), (Ids{3}));
    scheduler.Finish(kSub, 1);
    AddMessages(4, 4);
    EXPECT_EQ(TakeBatch(), Ids{});
    scheduler.Finish(kSub, 2);
    EXPECT_EQ(TakeBatch(), (Ids{4}));
}

TEST_F(SchedulerBatchTest, TasksThatAreHandedBackFreeThePlaceWithTheLastOne) {
    scheduler.Configure({Config(kSub, 1)});
    AddMessages(1, 33);
    EXPECT_EQ(TakeBatch(), Range(1, 32));
    for (MessageId id = 2; id <= 32; ++id) scheduler.Return(kSub, id, 0);
    EXPECT_EQ(TakeBatch(), Ids{});
    scheduler.Finish(kSub, 1);
    EXPECT_EQ(TakeBatch(), Range(2, 33));
}

TEST_F(SchedulerBatchTest, OfAKeyThereIsOne) {
    AddMessages(1, 2, 7);
    AddMessages(3, 4, 8);
    AddMessages(5, 6);
    EXPECT_EQ(TakeBatch(), (Ids{1, 3, 5, 6}));
    EXPECT_EQ(TakeBatch(), Ids{});
    scheduler.Return(kSub, 1, 0);
    scheduler.Finish(kSub, 3);
    EXPECT_EQ(TakeBatch(), (Ids{1, 4}));
}

TEST_F(SchedulerBatchTest, TaskThatIsToBeAloneIs) {
    AddMessages(1, 4);
    EXPECT_EQ(TakeBatch(), Range(1, 4));
    scheduler.Return(kSub, 1, 0);
    scheduler.Return(kSub, 2, 0, true);
    scheduler.Return(kSub, 3, 1, true);
    scheduler.Retry(kSub, ParkedMessage(4), 1, 0, true);
    EXPECT_EQ(TakeBatch(1, 5), (Ids{1}));
    const auto second = scheduler.Take(kRole, 5);
    ASSERT_EQ(second.size(), 1u);
    EXPECT_EQ(second.front().message.id, 2);
    EXPECT_TRUE(second.front().alone);
    EXPECT_EQ(TakeBatch(1, 5), (Ids{3}));
    EXPECT_EQ(TakeBatch(1, 5), (Ids{4}));
}

TEST_F(SchedulerBatchTest, MarkGoesWithTheNextRecordedAttempt) {
    AddMessages(1, 1);
    TakeBatch();
    scheduler.Return(kSub, 1, 0, true);
    TakeBatch();
    scheduler.Retry(kSub, ParkedMessage(1), 1, 0);
    AddMessages(2, 2);
    EXPECT_EQ(TakeBatch(1, 5), (Ids{1, 2}));
}

TEST_F(SchedulerBatchTest, RetriesAndFreshTasksShareABatch) {
    scheduler.AddParked(kSub, ParkedMessage(50), 2, 10);
    scheduler.AddParked(kSub, ParkedMessage(51), 2, 90);
    AddMessages(1, 2);
    EXPECT_EQ(TakeBatch(1, 20), (Ids{50, 1, 2}));
}

TEST_F(SchedulerBatchTest, SubscriptionWithoutBatches) {
    SubscriptionConfig config = Config();
    config.batch = false;
    scheduler.Configure({config});
    AddMessages(1, 3);
    EXPECT_EQ(TakeBatch(), (Ids{1}));
    EXPECT_EQ(TakeBatch(), (Ids{2}));
    scheduler.Configure({Config()});
    AddMessages(4, 5);
    EXPECT_EQ(TakeBatch(), (Ids{3, 4, 5}));
}

TEST_F(SchedulerBatchTest, BatchIsOfOneSubscriptionAndTheyTakeTurns) {
    scheduler.Configure({Config(1), Config(2)});
    GrowBatches(1);
    for (MessageId id = 1; id <= 1000; ++id) scheduler.AddMessageFor(1, Message(id));
    EXPECT_EQ(scheduler.Take(kRole, 0).size(), 32u);
    scheduler.AddMessageFor(2, Message(5000));
    const auto batch = scheduler.Take(kRole, 0);
    ASSERT_EQ(batch.size(), 1u);
    EXPECT_EQ(batch.front().subscription, 2);
    EXPECT_EQ(scheduler.Take(kRole, 0).size(), 32u);
}

TEST_F(SchedulerBatchTest, TroubleMakesTheNextBatchSmaller) {
    AddMessages(1, 100);
    EXPECT_EQ(TakeBatch().size(), 32u);
    scheduler.NoteBatch(kSub, 5, 0, 1000, true);
    EXPECT_EQ(TakeBatch().size(), 16u);
    scheduler.NoteBatch(99, 5, 0, 1000, true);
}

TEST_F(SchedulerBatchTest, SizeOutlivesANewConfiguration) {
    AddMessages(1, 100);
    scheduler.Configure({Config(kSub, 3)});
    EXPECT_EQ(TakeBatch().size(), 32u);
}

}  // namespace
}  // namespace herald::core
