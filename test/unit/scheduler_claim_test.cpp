// Tasks taken out of turn, and put aside.

#include "scheduler_fixture.hpp"

namespace herald::core {

namespace {

class ClaimTest : public SchedulerTest {
protected:
    void SetUp() override { scheduler.Configure({Config()}); }
};

TEST_F(ClaimTest, OnlyATaskSetAsideOrParkedCanBeClaimed) {
    EXPECT_FALSE(scheduler.Claim(kSub, 1, 0));
    scheduler.AddMessage(kChannel, Message(1));
    EXPECT_FALSE(scheduler.Claim(kSub, 1, 0));
    scheduler.SetAside(kSub, 2);
    scheduler.AddMessage(kChannel, Message(2));
    EXPECT_EQ(TakeId(), 1);
    EXPECT_EQ(TakeId(1'000'000), 0);
    EXPECT_TRUE(scheduler.Claim(kSub, 2, 0));
    EXPECT_TRUE(scheduler.IsRunning(kSub, 2));
    EXPECT_FALSE(scheduler.Claim(kSub, 2, 0));
    scheduler.Finish(kSub, 2);
    EXPECT_FALSE(scheduler.Claim(kSub, 2, 0));
    EXPECT_FALSE(scheduler.Claim(kSub + 1, 2, 0));
}

TEST_F(ClaimTest, ASettledTaskIsNotSetAside) {
    scheduler.SetAside(kSub, 1);
    scheduler.MarkSettled(kSub, 1);
    scheduler.AddMessage(kChannel, Message(1));
    EXPECT_FALSE(scheduler.Claim(kSub, 1, 0));
    // But one that was parked by rotation is.
    EXPECT_TRUE(scheduler.AddAgain(kSub, ParkedMessage(1)));
    EXPECT_FALSE(scheduler.AddAgain(kSub, ParkedMessage(1)));
    EXPECT_EQ(TakeId(), 0);
    EXPECT_TRUE(scheduler.Claim(kSub, 1, 0));
}

TEST_F(ClaimTest, SettingAsideEnds) {
    scheduler.SetAside(kSub, 1);
    scheduler.ForgetAside();
    scheduler.AddMessage(kChannel, Message(1));
    EXPECT_EQ(TakeId(), 1);
}

TEST_F(ClaimTest, WhatIsAddedAgainWaitsAsIfNeverTried) {
    scheduler.MarkSettled(kSub, 1);
    EXPECT_TRUE(scheduler.AddAgain(kSub, ParkedMessage(1)));
    EXPECT_EQ(scheduler.Gauges(kSub)->pending, 1u);
    EXPECT_FALSE(scheduler.AddParked(kSub, ParkedMessage(1), 1, 5));
    const auto task = TakeTask();
    ASSERT_TRUE(task);
    EXPECT_EQ(task->message.segment, kParkedSegment);
    EXPECT_FALSE(scheduler.AddAgain(kSub, ParkedMessage(1)));
    scheduler.Finish(kSub, 1);
    EXPECT_TRUE(scheduler.AddAgain(kSub, ParkedMessage(1)));
}

TEST_F(ClaimTest, AParkedTaskKeepsItsReferenceAndAttempts) {
    scheduler.AddParked(kSub, ParkedMessage(1), 2, 50);
    EXPECT_FALSE(scheduler.Claim(kSub, 1, 1));
    EXPECT_TRUE(scheduler.Claim(kSub, 1, 2));
    scheduler.Return(kSub, 1, 3, true);
    const auto task = TakeTask();
    ASSERT_TRUE(task);
    EXPECT_EQ(task->message.segment, kParkedSegment);
    EXPECT_EQ(task->attempts, 2);
    EXPECT_EQ(task->losses, 3);
    EXPECT_TRUE(task->alone);
}

TEST_F(ClaimTest, ATaskReturnedForLaterWaitsAndRunsAlone) {
    scheduler.SetAside(kSub, 1);
    for (MessageId id = 1; id <= 3; ++id) scheduler.AddMessage(kChannel, Message(id));
    ASSERT_TRUE(scheduler.Claim(kSub, 1, 0));
    scheduler.Return(kSub, 1, 0, true, 100);
    EXPECT_FALSE(scheduler.AddMessage(kChannel, Message(1)));
    EXPECT_EQ(TakeId(), 2);
    EXPECT_EQ(TakeId(), 3);
    EXPECT_EQ(TakeId(99), 0);
    EXPECT_EQ(scheduler.NextDue(99), std::optional<Microseconds>(100));
    EXPECT_EQ(scheduler.Gauges(kSub)->pending, 1u);
    const auto task = TakeTask(100);
    ASSERT_TRUE(task);
    EXPECT_EQ(task->message.id, 1);
    EXPECT_TRUE(task->alone);
}

TEST_F(ClaimTest, ATaskReturnedForLaterHoldsItsKey) {
    scheduler.SetAside(kSub, 1);
    for (MessageId id = 1; id <= 3; ++id) scheduler.AddMessage(kChannel, Message(id, id == 2 ? 8 : 7));
    ASSERT_TRUE(scheduler.Claim(kSub, 1, 0));
    scheduler.Return(kSub, 1, 0, true, 100);
    EXPECT_EQ(TakeId(), 2);
    EXPECT_EQ(TakeId(99), 0);
    EXPECT_EQ(TakeId(100), 1);
    EXPECT_EQ(TakeId(100), 0);
    scheduler.Finish(kSub, 1);
    EXPECT_EQ(TakeId(100), 3);
}

TEST_F(ClaimTest, TheLimitOfASubscriptionCanBeChanged) {
    for (MessageId id = 1; id <= 3; ++id) scheduler.AddMessage(kChannel, Message(id));
    scheduler.SetMaxConcurrency(kSub, 1);
    EXPECT_EQ(TakeId(), 1);
    EXPECT_EQ(TakeId(), 0);
    scheduler.SetMaxConcurrency(kSub, 4);
    EXPECT_EQ(TakeId(), 2);
}

TEST_F(ClaimTest, ARunnableSubscriptionIsToldFromOthers) {
    EXPECT_TRUE(scheduler.IsRunnable(kSub));
    scheduler.SetRunnable(kSub, false);
    EXPECT_FALSE(scheduler.IsRunnable(kSub));
    EXPECT_FALSE(scheduler.IsRunnable(kSub + 1));
}

}  // namespace

}  // namespace herald::core
