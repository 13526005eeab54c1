// The rules of dealing: once per subscription, turns, limits, configuration, gauges. Keys and
// waiting for a time have their own file, scheduler_order_test.cpp.

#include "scheduler_fixture.hpp"

namespace herald::core {
namespace {

TEST_F(SchedulerTest, EveryMessageMakesOneTaskPerSubscriptionOfItsChannel) {
    scheduler.Configure({Config(1), Config(2), Config(3, 4, kRole, 11)});
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(7)), 2u);
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(7)), 0u);
    EXPECT_EQ(scheduler.AddMessage(12, Message(8)), 0u);
    EXPECT_FALSE(scheduler.AddMessageFor(1, Message(7)));
    EXPECT_TRUE(scheduler.AddMessageFor(3, Message(7)));
    EXPECT_FALSE(scheduler.AddMessageFor(4, Message(7)));
    EXPECT_EQ(TakeAll(), (Ids{7, 7, 7}));
    // Done, and still seen.
    scheduler.Finish(1, 7);
    EXPECT_FALSE(scheduler.AddMessageFor(1, Message(7)));
    EXPECT_EQ(TakeId(), 0);
}

TEST_F(SchedulerTest, TaskCarriesTheWholeReference) {
    scheduler.Configure({Config()});
    scheduler.AddMessage(kChannel, {77, 123456, 88, 9, 2, 0xdeadbeef});
    const auto task = TakeTask();
    ASSERT_TRUE(task);
    EXPECT_EQ(task->subscription, kSub);
    EXPECT_EQ(task->message.id, 77);
    EXPECT_EQ(task->message.published_at, 123456);
    EXPECT_EQ(task->message.block, 88u);
    EXPECT_EQ(task->message.offset, 9);
    EXPECT_EQ(task->message.segment, 2);
    EXPECT_EQ(task->message.key_hash, 0xdeadbeefu);
    EXPECT_EQ(task->attempts, 0);
    EXPECT_EQ(task->losses, 0);
}

TEST_F(SchedulerTest, TasksStartInTheOrderTheyCameAlsoWhenDemandLookedAhead) {
    scheduler.Configure({Config(kSub, 10)});
    for (const MessageId id : {5, 3, 9, 1}) scheduler.AddMessage(kChannel, Message(id));
    EXPECT_EQ(DemandOf(kRole), 4u);
    scheduler.AddMessage(kChannel, Message(2));
    EXPECT_EQ(TakeAll(), (Ids{5, 3, 9, 1, 2}));
}

TEST_F(SchedulerTest, NeverMoreRunningThanMaxConcurrency) {
    scheduler.Configure({Config(kSub, 3)});
    AddMessages(1, 10);
    EXPECT_EQ(DemandOf(kRole), 3u);
    EXPECT_EQ(TakeId(), 1);
    EXPECT_EQ(DemandOf(kRole), 2u);
    EXPECT_EQ(TakeAll(), (Ids{2, 3}));
    EXPECT_TRUE(scheduler.Demand(0).empty());
    scheduler.Finish(kSub, 2);
    EXPECT_EQ(DemandOf(kRole), 1u);
    EXPECT_EQ(TakeAll(), (Ids{4}));
}

TEST_F(SchedulerTest, SubscriptionsTakeTurns) {
    scheduler.Configure({Config(1), Config(2), Config(3)});
    for (MessageId id = 1; id <= 4; ++id)
        for (const SubscriptionId subscription : {1, 2}) scheduler.AddMessageFor(subscription, Message(id));
    EXPECT_EQ(TakeSubscription(), 1);
    EXPECT_EQ(TakeSubscription(), 2);
    EXPECT_EQ(TakeSubscription(), 1);
    scheduler.AddMessageFor(3, Message(1));
    EXPECT_EQ(TakeSubscription(), 3);
    EXPECT_EQ(TakeSubscription(), 2);
    EXPECT_EQ(TakeSubscription(), 1);
}

TEST_F(SchedulerTest, RolesGetOnlyTheirOwnSubscriptions) {
    scheduler.Configure({Config(1, 4, 100), Config(2, 4, 200)});
    scheduler.AddMessageFor(2, Message(5));
    EXPECT_EQ(TakeId(0, 100), 0);
    EXPECT_EQ(TakeId(0, 300), 0);
    EXPECT_EQ(TakeId(0, 200), 5);
}

TEST_F(SchedulerTest, RolesTakeTurnsWithASingleWorker) {
    scheduler.Configure({Config(1, 9, 100), Config(2, 9, 200), Config(3, 9, 300), Config(4, 9, 300)});
    AddMessages(1, 3);
    std::vector<RoleId> served;
    for (int round = 0; round < 6; ++round) {
        // Looking twice changes nothing: the order tells who was served, not who was asked about.
        scheduler.Demand(0);
        const auto demand = scheduler.Demand(0);
        ASSERT_EQ(demand.size(), 3u);
        const RoleId role = demand.front().role;
        served.push_back(role);
        const auto task = TakeTask(0, role);
        ASSERT_TRUE(task);
        scheduler.Return(task->subscription, task->message.id, 0);
    }
    EXPECT_EQ(served, (std::vector<RoleId>{100, 200, 300, 100, 200, 300}));
}

TEST_F(SchedulerTest, DemandAddsUpTheSubscriptionsOfARole) {
    scheduler.Configure({Config(1, 2), Config(2, 5), Config(3, 0), Config(4, -3)});
    AddMessages(1, 4);
    EXPECT_EQ(DemandOf(kRole), 2u + 4u);
    TakeId();
    EXPECT_EQ(DemandOf(kRole), 1u + 4u);
}

TEST_F(SchedulerTest, PausedSubscriptionCollectsAndGivesNothing) {
    SubscriptionConfig config = Config();
    config.runnable = false;
    scheduler.Configure({config});
    AddMessages(1, 2);
    scheduler.AddParked(kSub, ParkedMessage(3), 1, 50);
    EXPECT_TRUE(scheduler.Demand(60).empty());
    EXPECT_EQ(TakeId(60), 0);
    EXPECT_EQ(scheduler.NextDue(0), std::nullopt);
    scheduler.SetRunnable(kSub, true);
    EXPECT_EQ(scheduler.NextDue(0), 50);
    EXPECT_EQ(TakeId(60), 3);
    scheduler.SetRunnable(kSub, false);
    EXPECT_EQ(TakeId(60), 0);
    scheduler.Configure({Config()});
    EXPECT_EQ(TakeAll(60), (Ids{1, 2}));
    scheduler.SetRunnable(99, true);
}

TEST_F(SchedulerTest, ConfigureReturnsWhatIsNewAndKeepsTheTasksOfTheRest) {
    EXPECT_EQ(scheduler.Configure({Config(2), Config(1)}), (std::vector<SubscriptionId>{2, 1}));
    AddMessages(1, 1);
    EXPECT_EQ(scheduler.Configure({Config(1), Config(3)}), (std::vector<SubscriptionId>{3}));
    EXPECT_EQ(scheduler.Subscriptions(), (std::vector<SubscriptionId>{1, 3}));
    EXPECT_FALSE(scheduler.AddMessageFor(2, Message(2)));
    EXPECT_EQ(TakeAll(), (Ids{1}));
    EXPECT_TRUE(scheduler.Configure({Config(3), Config(1)}).empty());
    EXPECT_FALSE(scheduler.AddMessageFor(1, Message(1)));
}

TEST_F(SchedulerTest, ChangedLimitRoleAndChannelTakeEffectAtOnce) {
    scheduler.Configure({Config(1, 1)});
    AddMessages(1, 9);
    EXPECT_EQ(TakeAll(), (Ids{1}));
    scheduler.Configure({Config(1, 3)});
    EXPECT_EQ(TakeAll(), (Ids{2, 3}));
    scheduler.Configure({Config(1, 2)});
    scheduler.Finish(1, 1);
    EXPECT_EQ(TakeId(), 0);
    scheduler.Finish(1, 2);
    EXPECT_EQ(DemandOf(kRole), 1u);
    scheduler.Configure({Config(1, 2, 200, 20)});
    EXPECT_EQ(DemandOf(kRole), 0u);
    EXPECT_EQ(TakeId(), 0);
    EXPECT_EQ(TakeId(0, 200), 4);
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(50)), 0u);
    EXPECT_EQ(scheduler.AddMessage(20, Message(50)), 1u);
}

TEST_F(SchedulerTest, RemovedSubscriptionRemembersItsRunningTasksUntilTheyReport) {
    scheduler.Configure({Config(1, 4), Config(2, 4, 200)});
    for (MessageId id = 1; id <= 5; ++id) scheduler.AddMessageFor(1, Message(id, 7 * (id == 1)));
    for (int i = 0; i < 3; ++i) TakeId();
    scheduler.Configure({Config(2, 4, 200)});
    EXPECT_EQ(scheduler.Gauges(1), std::nullopt);
    EXPECT_EQ(TakeId(), 0);
    EXPECT_TRUE(scheduler.IsRunning(1, 1));
    EXPECT_FALSE(scheduler.IsRunning(1, 4));
    EXPECT_FALSE(scheduler.AddParked(1, ParkedMessage(6), 0, 0));
    EXPECT_FALSE(scheduler.Forget(1, 4));

    scheduler.Finish(1, 1);
    scheduler.Retry(1, ParkedMessage(2), 1, 0);
    EXPECT_FALSE(scheduler.IsRunning(1, 2));
    EXPECT_TRUE(scheduler.IsRunning(1, 3));
    scheduler.Return(1, 3, 1);
    EXPECT_FALSE(scheduler.IsRunning(1, 3));
    EXPECT_TRUE(scheduler.Demand(100).empty());
    EXPECT_EQ(scheduler.NextDue(-100), std::nullopt);
    scheduler.Finish(1, 3);
}

TEST_F(SchedulerTest, ReportsOfTasksThatDoNotRunChangeNothing) {
    scheduler.Configure({Config()});
    AddMessages(1, 1);
    scheduler.Finish(kSub, 1);
    scheduler.Retry(kSub, ParkedMessage(1), 1, 500);
    scheduler.Return(kSub, 1, 3);
    scheduler.Finish(99, 1);
    scheduler.Retry(kSub, ParkedMessage(2), 1, 500);
    scheduler.Return(kSub, 2, 3);
    EXPECT_EQ(scheduler.NextDue(0), std::nullopt);
    const auto task = TakeTask();
    ASSERT_TRUE(task);
    EXPECT_EQ(task->losses, 0);
    EXPECT_EQ(TakeId(1000), 0);
}

TEST_F(SchedulerTest, AdoptedTaskCountsAsRunningAfterConfigure) {
    scheduler.AdoptRunning({{kSub, Message(5, 77), 2, 1, false}});
    EXPECT_TRUE(scheduler.IsRunning(kSub, 5));
    EXPECT_TRUE(scheduler.Subscriptions().empty());
    EXPECT_EQ(scheduler.Gauges(kSub), std::nullopt);
    EXPECT_EQ(scheduler.Configure({Config(kSub, 2)}), (std::vector<SubscriptionId>{kSub}));
    EXPECT_EQ(scheduler.Gauges(kSub)->running, 1u);
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(5, 77)), 0u);  // seen
    AddMessages(6, 6, 77);                                          // its key is busy
    AddMessages(7, 8);
    EXPECT_EQ(TakeAll(), (Ids{7}));  // one of two slots is taken
    scheduler.Return(kSub, 5, 2);
    const auto task = TakeTask();
    ASSERT_TRUE(task);
    EXPECT_EQ(task->message.id, 5);
    EXPECT_EQ(task->attempts, 2);
    EXPECT_EQ(task->losses, 2);
    scheduler.Finish(kSub, 5);
    EXPECT_EQ(TakeId(), 6);
}

TEST_F(SchedulerTest, AdoptedTaskThatReportsBeforeConfigureStaysSeen) {
    scheduler.AdoptRunning({{kSub, Message(5), 0, 0, false}});
    scheduler.AdoptRunning({{kSub, Message(6), 0, 0, false}});
    scheduler.Finish(kSub, 5);
    scheduler.Retry(kSub, ParkedMessage(6), 1, 30);
    scheduler.Configure({Config()});
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(5)), 0u);
    EXPECT_EQ(scheduler.AddMessage(kChannel, Message(6)), 0u);
    EXPECT_EQ(TakeAll(29), (Ids{}));
    EXPECT_EQ(TakeAll(30), (Ids{6}));
}

TEST_F(SchedulerTest, AdoptingATaskThatWaitsTakesItOutOfTheQueue) {
    scheduler.Configure({Config()});
    AddMessages(1, 2);
    scheduler.AddParked(kSub, ParkedMessage(3), 1, 0);
    scheduler.AdoptRunning({{kSub, Message(1), 0, 0, false}});
    scheduler.AdoptRunning({{kSub, ParkedMessage(3), 1, 0, false}});
    scheduler.AdoptRunning({{kSub, ParkedMessage(3), 1, 0, false}});
    EXPECT_EQ(scheduler.Gauges(kSub)->running, 2u);
    EXPECT_EQ(TakeAll(), (Ids{2}));
}

TEST_F(SchedulerTest, GaugesCountWhatWaitsAndWhatRuns) {
    scheduler.Configure({Config()});
    EXPECT_EQ(scheduler.Gauges(99), std::nullopt);
    EXPECT_EQ(scheduler.Gauges(kSub)->oldest_published_at, std::nullopt);
    AddMessages(20, 24);
    scheduler.AddParked(kSub, ParkedMessage(5), 2, 900);
    scheduler.AddParked(kSub, ParkedMessage(6), 0, 900);
    auto gauges = scheduler.Gauges(kSub);
    EXPECT_EQ(gauges->pending, 6u);
    EXPECT_EQ(gauges->retrying, 1u);
    EXPECT_EQ(gauges->running, 0u);
    EXPECT_EQ(gauges->oldest_published_at, 1005);
    EXPECT_TRUE(scheduler.Forget(kSub, 5));
    EXPECT_EQ(scheduler.Gauges(kSub)->oldest_published_at, 1006);
    EXPECT_TRUE(scheduler.Forget(kSub, 6));
    EXPECT_EQ(scheduler.Gauges(kSub)->oldest_published_at, 1020);
    EXPECT_EQ(TakeId(), 20);
    EXPECT_EQ(TakeId(), 21);
    scheduler.Retry(kSub, ParkedMessage(20), 1, 100);
    scheduler.Return(kSub, 21, 1);
    gauges = scheduler.Gauges(kSub);
    EXPECT_EQ(gauges->pending, 4u);  // handed back without a failed attempt: never tried
    EXPECT_EQ(gauges->retrying, 1u);
    EXPECT_EQ(gauges->oldest_published_at, 1020);
    EXPECT_EQ(TakeId(), 21);
    EXPECT_EQ(scheduler.Gauges(kSub)->running, 1u);
}

TEST_F(SchedulerTest, OldestTaskMayWaitBehindItsKey) {
    scheduler.Configure({Config(kSub, 9)});
    AddMessages(1, 3, 55);
    AddMessages(4, 4);
    EXPECT_EQ(TakeAll(), (Ids{1, 4}));
    EXPECT_EQ(scheduler.Gauges(kSub)->pending, 2u);
    EXPECT_EQ(scheduler.Gauges(kSub)->oldest_published_at, 1002);
    scheduler.Forget(kSub, 2);
    EXPECT_EQ(scheduler.Gauges(kSub)->oldest_published_at, 1003);
    scheduler.Forget(kSub, 3);
    EXPECT_EQ(scheduler.Gauges(kSub)->oldest_published_at, std::nullopt);
}

}  // namespace
}  // namespace herald::core
