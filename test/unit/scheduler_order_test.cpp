// Order inside one subscription: keys, retries, parked tasks, what is handed back, what is
// settled or forgotten.

#include "scheduler_fixture.hpp"

namespace herald::core {
namespace {

constexpr std::uint32_t kKey = 55;
constexpr std::uint32_t kOtherKey = 66;

class SchedulerOrderTest : public SchedulerTest {
protected:
    SchedulerOrderTest() { scheduler.Configure({Config(kSub, 100)}); }
};

TEST_F(SchedulerOrderTest, TasksWithTheSameKeyRunOneAtATime) {
    AddMessages(1, 3, kKey);
    AddMessages(4, 4);
    AddMessages(5, 6, kOtherKey);
    EXPECT_EQ(DemandOf(kRole), 3u);
    EXPECT_EQ(TakeAll(), (Ids{1, 4, 5}));
    scheduler.Finish(kSub, 4);
    EXPECT_EQ(TakeId(), 0);
    scheduler.Finish(kSub, 1);
    EXPECT_EQ(DemandOf(kRole), 1u);
    EXPECT_EQ(TakeAll(), (Ids{2}));
    scheduler.Finish(kSub, 5);
    scheduler.Finish(kSub, 2);
    EXPECT_EQ(TakeAll(), (Ids{6, 3}));
    AddMessages(7, 7, kKey);
    EXPECT_EQ(TakeId(), 0);
    scheduler.Finish(kSub, 3);
    EXPECT_EQ(TakeId(), 7);
}

TEST_F(SchedulerOrderTest, KeyOrderIsArrivalNotId) {
    for (const MessageId id : {9, 4, 6}) scheduler.AddMessage(kChannel, Message(id, kKey));
    for (const MessageId id : {9, 4, 6}) {
        EXPECT_EQ(TakeAll(), (Ids{id}));
        scheduler.Finish(kSub, id);
    }
}

TEST_F(SchedulerOrderTest, KeysOfDifferentSubscriptionsAreStrangers) {
    scheduler.Configure({Config(1), Config(2)});
    AddMessages(1, 1, kKey);
    EXPECT_EQ(TakeAll(), (Ids{1, 1}));
}

TEST_F(SchedulerOrderTest, KeyStaysBusyWhileItsTaskWaitsForARetry) {
    AddMessages(1, 2, kKey);
    EXPECT_EQ(TakeId(), 1);
    scheduler.Retry(kSub, ParkedMessage(1, kKey), 1, 50);
    AddMessages(3, 3, kKey);
    AddMessages(4, 4);
    EXPECT_EQ(TakeAll(49), (Ids{4}));
    EXPECT_EQ(scheduler.NextDue(0), 50);
    EXPECT_EQ(TakeAll(50), (Ids{1}));
    scheduler.Finish(kSub, 1);
    EXPECT_EQ(TakeAll(50), (Ids{2}));
    scheduler.Finish(kSub, 2);
    EXPECT_EQ(TakeAll(50), (Ids{3}));
}

TEST_F(SchedulerOrderTest, RetryReplacesTheReferenceAndCarriesTheAttempts) {
    AddMessages(1, 1);
    TakeId();
    scheduler.Return(kSub, 1, 2);
    TakeId();
    scheduler.Retry(kSub, {1, 1001, 777, 8, kParkedSegment, 0}, 4, 10);
    EXPECT_FALSE(scheduler.IsRunning(kSub, 1));
    EXPECT_EQ(TakeId(9), 0);
    const auto task = TakeTask(10);
    ASSERT_TRUE(task);
    EXPECT_EQ(task->message.block, 777u);
    EXPECT_EQ(task->message.segment, kParkedSegment);
    EXPECT_EQ(task->attempts, 4);
    EXPECT_EQ(task->losses, 0);  // recorded with the attempt
}

TEST_F(SchedulerOrderTest, DueTasksGoBeforeNeverTriedOnesByDueTime) {
    AddMessages(1, 2);
    scheduler.AddParked(kSub, ParkedMessage(10), 1, 30);
    scheduler.AddParked(kSub, ParkedMessage(11), 0, 20);
    scheduler.AddParked(kSub, ParkedMessage(12), 3, 40);
    EXPECT_EQ(DemandOf(kRole, 30), 4u);
    EXPECT_EQ(TakeAll(30), (Ids{11, 10, 1, 2}));
    EXPECT_EQ(scheduler.NextDue(30), 40);
    EXPECT_EQ(TakeAll(40), (Ids{12}));
}

TEST_F(SchedulerOrderTest, NextDueIsTheFirstThatIsNotDue) {
    EXPECT_EQ(scheduler.NextDue(0), std::nullopt);
    scheduler.AddParked(kSub, ParkedMessage(1), 1, 10);
    scheduler.AddParked(kSub, ParkedMessage(2), 1, 20);
    scheduler.AddParked(kSub, ParkedMessage(3), 1, 20);
    EXPECT_EQ(scheduler.NextDue(9), 10);
    EXPECT_EQ(scheduler.NextDue(10), 20);
    EXPECT_EQ(scheduler.NextDue(20), std::nullopt);
}

TEST_F(SchedulerOrderTest, ExtremeDueTimes) {
    constexpr auto kNever = std::numeric_limits<Microseconds>::max();
    scheduler.AddParked(kSub, ParkedMessage(1), 1, std::numeric_limits<Microseconds>::min());
    scheduler.AddParked(kSub, ParkedMessage(2), 1, kNever);
    EXPECT_EQ(scheduler.NextDue(0), kNever);
    EXPECT_EQ(TakeAll(kNever - 1), (Ids{1}));
    EXPECT_EQ(TakeAll(kNever), (Ids{2}));
    EXPECT_EQ(scheduler.NextDue(kNever), std::nullopt);
}

TEST_F(SchedulerOrderTest, EarliestDueTimeIsNotMistakenForAReturnedTask) {
    constexpr auto kEver = std::numeric_limits<Microseconds>::min();
    scheduler.AddParked(kSub, ParkedMessage(8, kKey), 1, kEver);
    scheduler.AddParked(kSub, ParkedMessage(5, kKey), 1, 60);
    EXPECT_EQ(TakeAll(59), (Ids{}));
    EXPECT_EQ(TakeAll(60), (Ids{5}));
}

TEST_F(SchedulerOrderTest, ParkedTasksOccupyTheirKeyLowestIdFirst) {
    // The lower id is due later, and still goes first.
    scheduler.AddParked(kSub, ParkedMessage(8, kKey), 1, 10);
    scheduler.AddParked(kSub, ParkedMessage(5, kKey), 1, 60);
    AddMessages(9, 9, kKey);
    AddMessages(20, 20, kOtherKey);
    EXPECT_EQ(TakeAll(10), (Ids{20}));
    EXPECT_EQ(scheduler.NextDue(10), 60);
    EXPECT_EQ(TakeAll(60), (Ids{5}));
    scheduler.Finish(kSub, 5);
    EXPECT_EQ(TakeAll(60), (Ids{8}));
    scheduler.Finish(kSub, 8);
    EXPECT_EQ(TakeAll(60), (Ids{9}));
}

TEST_F(SchedulerOrderTest, ParkedTaskGoesBeforeWaitingOnesOfItsKeyEvenWhenTheyWereAboutToStart) {
    AddMessages(7, 8, kKey);
    EXPECT_EQ(DemandOf(kRole), 1u);  // 7 is staged
    scheduler.AddParked(kSub, ParkedMessage(5, kKey), 1, 60);
    EXPECT_EQ(DemandOf(kRole), 0u);
    EXPECT_EQ(TakeId(59), 0);
    EXPECT_EQ(TakeAll(60), (Ids{5}));
    scheduler.Finish(kSub, 5);
    EXPECT_EQ(TakeAll(60), (Ids{7}));
    // While one runs, a parked one only takes the next place.
    scheduler.AddParked(kSub, ParkedMessage(4, kKey), 1, 60);
    EXPECT_EQ(TakeId(60), 0);
    scheduler.Finish(kSub, 7);
    EXPECT_EQ(TakeAll(60), (Ids{4}));
    scheduler.Finish(kSub, 4);
    EXPECT_EQ(TakeAll(60), (Ids{8}));
}

TEST_F(SchedulerOrderTest, TaskThatIsPassedAgainAndAgainKeepsItsPlace) {
    AddMessages(1, 1);
    AddMessages(2, 2, kKey);
    AddMessages(3, 4);
    EXPECT_EQ(DemandOf(kRole), 4u);
    EXPECT_TRUE(scheduler.Forget(kSub, 3));
    for (MessageId id = 1000; id < 6000; ++id) {
        scheduler.AddParked(kSub, ParkedMessage(id, kKey), 0, 0);
        ASSERT_EQ(DemandOf(kRole), 3u);
        ASSERT_EQ(TakeId(), id);
        scheduler.Finish(kSub, id);
    }
    EXPECT_EQ(TakeAll(), (Ids{1, 2, 4}));
}

TEST_F(SchedulerOrderTest, FailedTaskDoesNotLetTheNextOfItsKeyPass) {
    AddMessages(1, 2, kKey);
    for (std::int32_t attempt = 1; attempt <= 3; ++attempt) {
        EXPECT_EQ(TakeAll(attempt * 100), (Ids{1}));
        scheduler.Retry(kSub, ParkedMessage(1, kKey), attempt, (attempt + 1) * 100);
        EXPECT_EQ(DemandOf(kRole, attempt * 100), 0u);
    }
}

TEST_F(SchedulerOrderTest, AddParkedIsRefusedOnlyWhileTheTaskWaitsOrRuns) {
    AddMessages(1, 1);
    EXPECT_FALSE(scheduler.AddParked(kSub, ParkedMessage(1), 1, 0));  // waits, never tried
    EXPECT_EQ(scheduler.Gauges(kSub)->retrying, 0u);
    TakeId();
    EXPECT_FALSE(scheduler.AddParked(kSub, ParkedMessage(1), 1, 0));  // runs
    scheduler.Retry(kSub, ParkedMessage(1), 1, 10);
    EXPECT_FALSE(scheduler.AddParked(kSub, ParkedMessage(1), 1, 0));  // waits for its retry
    EXPECT_EQ(TakeId(9), 0);
    EXPECT_EQ(TakeId(10), 1);
    scheduler.Finish(kSub, 1);                                       // dead, say
    EXPECT_TRUE(scheduler.AddParked(kSub, ParkedMessage(1), 0, 0));  // and replayed
    EXPECT_EQ(TakeId(), 1);
    EXPECT_FALSE(scheduler.AddParked(99, ParkedMessage(1), 0, 0));
}

TEST_F(SchedulerOrderTest, ParkedTaskIsTakenWhetherOrNotItsLogEntryIsSettled) {
    scheduler.MarkSettled(kSub, 1);
    EXPECT_TRUE(scheduler.AddParked(kSub, ParkedMessage(1), 1, 0));
    EXPECT_TRUE(scheduler.AddParked(kSub, ParkedMessage(2), 1, 0));
    scheduler.MarkSettled(kSub, 2);
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(1)), 0u);
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(2)), 0u);
    EXPECT_EQ(TakeAll(), (Ids{1, 2}));
}

TEST_F(SchedulerOrderTest, ParkedIdIsSeen) {
    EXPECT_TRUE(scheduler.AddParked(kSub, ParkedMessage(3), 1, 0));
    EXPECT_EQ(TakeId(), 3);
    scheduler.Finish(kSub, 3);
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(3)), 0u);
}

TEST_F(SchedulerOrderTest, SettledMessageMakesNoTask) {
    scheduler.MarkSettled(kSub, 1);
    AddMessages(1, 3);
    scheduler.MarkSettled(kSub, 2);  // also where it waits already
    scheduler.MarkSettled(99, 2);
    EXPECT_EQ(TakeAll(), (Ids{3}));
    scheduler.MarkSettled(kSub, 3);
    EXPECT_TRUE(scheduler.IsRunning(kSub, 3));
}

TEST_F(SchedulerOrderTest, ReturnedTaskGoesToTheFrontAndKeepsItsAttempts) {
    AddMessages(1, 3);
    scheduler.AddParked(kSub, ParkedMessage(9), 5, 0);
    EXPECT_EQ(TakeId(), 9);
    EXPECT_EQ(TakeId(), 1);
    scheduler.AddParked(kSub, ParkedMessage(8), 1, -100);
    scheduler.Return(kSub, 9, 1);
    scheduler.Return(kSub, 1, 0);
    EXPECT_EQ(scheduler.NextDue(std::numeric_limits<Microseconds>::min() + 1), -100);
    EXPECT_EQ(TakeId(-1000), 1);
    const auto task = TakeTask(-1000);
    ASSERT_TRUE(task);
    EXPECT_EQ(task->message.id, 9);
    EXPECT_EQ(task->attempts, 5);
    EXPECT_EQ(task->losses, 1);
    EXPECT_EQ(TakeAll(), (Ids{8, 2, 3}));
}

TEST_F(SchedulerOrderTest, ReturnedTaskWaitsWhileTheSubscriptionIsPaused) {
    AddMessages(1, 2);
    EXPECT_EQ(TakeId(), 1);
    scheduler.SetRunnable(kSub, false);
    scheduler.Return(kSub, 1, 1);
    EXPECT_FALSE(scheduler.IsRunning(kSub, 1));
    EXPECT_EQ(TakeId(), 0);
    scheduler.SetRunnable(kSub, true);
    EXPECT_EQ(TakeAll(), (Ids{1, 2}));
}

TEST_F(SchedulerOrderTest, ReturnedTaskIsTheNextOfItsKey) {
    AddMessages(5, 6, kKey);
    EXPECT_EQ(TakeId(), 5);
    scheduler.AddParked(kSub, ParkedMessage(3, kKey), 1, 900);
    scheduler.Return(kSub, 5, 0);
    EXPECT_EQ(TakeAll(), (Ids{5}));
    scheduler.Finish(kSub, 5);
    EXPECT_EQ(TakeAll(899), (Ids{}));
    EXPECT_EQ(TakeAll(900), (Ids{3}));
}

TEST_F(SchedulerOrderTest, KeyIsBusyUntilTheLastOfSeveralAdoptedTasksReports) {
    scheduler.AdoptRunning({{kSub, Message(1, kKey), 0, 0, false}});
    scheduler.AdoptRunning({{kSub, Message(2, kKey), 0, 0, false}});
    AddMessages(3, 3, kKey);
    scheduler.Finish(kSub, 1);
    EXPECT_EQ(TakeId(), 0);
    scheduler.Finish(kSub, 2);
    EXPECT_EQ(TakeId(), 3);
}

TEST_F(SchedulerOrderTest, ForgottenTaskNeverRunsWhereverItWaits) {
    AddMessages(1, 4);
    AddMessages(5, 8, kKey);
    EXPECT_EQ(DemandOf(kRole), 5u);                                 // all staged or in line
    AddMessages(9, 9);                                              // not staged
    scheduler.AddParked(kSub, ParkedMessage(20), 1, 0);             // due
    scheduler.AddParked(kSub, ParkedMessage(21), 1, 500);           // not due
    scheduler.AddParked(kSub, ParkedMessage(22, kOtherKey), 1, 0);  // first of its key
    scheduler.AddParked(kSub, ParkedMessage(23, kOtherKey), 1, 0);  // second
    for (const MessageId id : {2, 5, 7, 9, 20, 21, 22}) {
        EXPECT_TRUE(scheduler.Forget(kSub, id)) << id;
        EXPECT_FALSE(scheduler.Forget(kSub, id)) << id;
    }
    EXPECT_FALSE(scheduler.Forget(kSub, 99));
    EXPECT_FALSE(scheduler.Forget(99, 1));
    EXPECT_EQ(scheduler.Gauges(kSub)->pending, 5u);
    EXPECT_EQ(DemandOf(kRole), 5u);
    EXPECT_EQ(TakeAll(1000), (Ids{23, 1, 3, 4, 6}));
    EXPECT_FALSE(scheduler.Forget(kSub, 1));  // runs
    scheduler.Finish(kSub, 6);
    EXPECT_EQ(TakeAll(1000), (Ids{8}));
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(9)), 0u);  // still seen
    EXPECT_TRUE(scheduler.AddParked(kSub, ParkedMessage(9), 0, 0));
    EXPECT_EQ(TakeAll(1000), (Ids{9}));
}

TEST_F(SchedulerOrderTest, ForgettingTheFailedTaskFreesItsKey) {
    AddMessages(1, 2, kKey);
    TakeId();
    scheduler.Retry(kSub, ParkedMessage(1, kKey), 1, 1000);
    EXPECT_EQ(TakeId(), 0);
    scheduler.Forget(kSub, 1);
    EXPECT_EQ(TakeId(), 2);
}

TEST_F(SchedulerOrderTest, PurgingAPausedBacklogKeepsTheRest) {
    scheduler.SetRunnable(kSub, false);
    for (MessageId id = 1; id <= 10'000; ++id) scheduler.AddMessage(kChannel, Message(id, id % 3 == 0 ? 40 : 0));
    for (MessageId id = 1; id <= 10'000; ++id) EXPECT_EQ(id % 500 == 0 || scheduler.Forget(kSub, id), true);
    EXPECT_EQ(scheduler.Gauges(kSub)->pending, 20u);
    EXPECT_EQ(scheduler.Gauges(kSub)->oldest_published_at, 1500);
    scheduler.SetRunnable(kSub, true);
    Ids all;
    for (Ids batch = TakeAll(); !batch.empty(); batch = TakeAll()) {
        for (const MessageId id : batch) scheduler.Finish(kSub, id);
        all.insert(all.end(), batch.begin(), batch.end());
    }
    EXPECT_EQ(all.size(), 20u);
    EXPECT_EQ(scheduler.Gauges(kSub)->pending, 0u);
}

}  // namespace
}  // namespace herald::core
