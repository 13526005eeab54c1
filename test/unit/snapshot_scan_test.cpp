// A scan of the tables by a scheduler that knows what they say, or some of it, or more.

#include <algorithm>
#include <map>
#include <random>

#include "core/snapshot_scan.hpp"
#include "scheduler_fixture.hpp"

namespace herald::core {
namespace {

constexpr std::uint32_t kKey = 55;

class SnapshotScanTest : public SchedulerTest {
protected:
    SnapshotScanTest() { scheduler.Configure({Config(kSub, 100)}); }

    // The order in which all that waits runs, each finished before the next one is taken.
    Ids RunAll() {
        Ids ids;
        while (const MessageId id = TakeId()) {
            ids.push_back(id);
            scheduler.Finish(kSub, id);
        }
        return ids;
    }

    // As rotation parks a task that was never tried.
    static void AddMoved(SnapshotScan *scan, const MessageRef &message) {
        scan->AddParked(kSub, message, 0, message.published_at);
    }
};

TEST_F(SnapshotScanTest, BetweenTheStepsOfRotationTasksKeepTheirPlace) {
    AddMessages(1, 10, kKey);
    for (int again = 0; again < 2; ++again) {
        SnapshotScan scan(&scheduler);
        for (MessageId id = 5; id >= 1; --id) AddMoved(&scan, ParkedMessage(id, kKey));
        for (MessageId id = 1; id <= 5; ++id) scan.AddSettled(kSub, id);
        for (MessageId id = 10; id >= 1; --id) scan.AddLogged(kChannel, Message(id, kKey));
        scan.Finish();
    }
    EXPECT_EQ(RunAll(), (Ids{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
}

TEST_F(SnapshotScanTest, ANewSchedulerTakesParkedTasksFirst) {
    SnapshotScan scan(&scheduler);
    for (const MessageId id : {2, 1}) AddMoved(&scan, ParkedMessage(id, kKey));
    for (MessageId id = 1; id <= 3; ++id) scan.AddSettled(kSub, id);
    for (const MessageId id : {5, 4, 3, 2, 1}) scan.AddLogged(kChannel, Message(id, kKey));
    scan.Finish();
    EXPECT_EQ(RunAll(), (Ids{1, 2, 4, 5}));
}

TEST_F(SnapshotScanTest, WhatNobodyHasAnyMoreIsDropped) {
    AddMessages(1, 3, kKey);
    SnapshotScan scan(&scheduler);
    scan.AddSettled(kSub, 2);  // given up by rotation
    for (MessageId id = 1; id <= 3; ++id) scan.AddLogged(kChannel, Message(id, kKey));
    scan.Finish();
    EXPECT_EQ(RunAll(), (Ids{1, 3}));
}

TEST_F(SnapshotScanTest, OneSubscriptionsParkedTaskIsNotAnothersSettledOne) {
    scheduler.Configure({Config(1, 100), Config(2, 100)});
    AddMessages(1, 1, kKey);
    SnapshotScan scan(&scheduler);
    scan.AddParked(2, ParkedMessage(1, kKey), 0, ParkedMessage(1, kKey).published_at);
    scan.AddSettled(1, 1);
    scan.AddSettled(2, 1);
    scan.Finish();
    EXPECT_EQ(TakeSubscription(), 2);
    EXPECT_EQ(TakeSubscription(), 0);
}

// Whatever way each task stands in the tables, and whichever of them are known, run or wait to be tried again:
// a scan changes the order of none that is known.
TEST_F(SnapshotScanTest, NoScanReordersWhatIsKnown) {
    std::mt19937 random(1);
    const auto pick = [&random](unsigned bound) { return random() % bound; };
    for (int episode = 0; episode < 300; ++episode) {
        scheduler = Scheduler();
        scheduler.Configure({Config(kSub, 100)});
        std::map<std::uint32_t, Ids> expected;
        struct Row {
            MessageRef message;
            bool parked, settled, logged;
        };
        std::vector<Row> rows;
        const MessageId known = 1 + pick(30);
        MessageId given_up = 0;
        for (MessageId id = 1; id <= known + 5; ++id) {
            Row row{Message(id, 1 + pick(3)), false, false, true};
            if (id <= known) scheduler.AddMessage(kChannel, row.message);
            // The older ones were in the segment that rotation is at.
            if (id <= known / 2) {
                row.settled = true;
                row.parked = pick(5) != 0;
                row.logged = pick(2) != 0;
                given_up += row.parked ? 0 : 1;
            }
            if (row.parked || !row.settled) expected[row.message.key_hash].push_back(id);
            rows.push_back(row);
        }
        for (unsigned scans = 1 + pick(3); scans > 0; --scans) {
            std::shuffle(rows.begin(), rows.end(), random);
            SnapshotScan scan(&scheduler);
            for (const Row &row : rows)
                if (row.parked) AddMoved(&scan, ParkedMessage(row.message.id, row.message.key_hash));
            for (const Row &row : rows)
                if (row.settled) scan.AddSettled(kSub, row.message.id);
            for (const Row &row : rows)
                if (row.logged) scan.AddLogged(kChannel, row.message);
            scan.Finish();
        }
        std::map<std::uint32_t, Ids> ran;
        while (const auto task = TakeTask()) {
            ran[task->message.key_hash].push_back(task->message.id);
            scheduler.Finish(kSub, task->message.id);
        }
        ASSERT_EQ(ran, expected) << "episode " << episode << ", given up " << given_up;
    }
}

}  // namespace
}  // namespace herald::core
