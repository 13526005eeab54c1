// Who is to blame for a crash, and how long subscriptions rest after it.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

#include "core/crash_notes.hpp"

namespace herald::core {

namespace {

constexpr Microseconds kSecond = 1000000;

class CrashNotesTest : public testing::Test {
protected:
    // A worker that runs the last of these tasks of one subscription.
    void Run(int place, std::vector<MessageId> messages, SubscriptionId subscription = 1, bool committing = false) {
        RunningNote &note = notes->running[place];
        note.database = 5;
        note.extension = 6;
        note.pid = 1000 + place;
        for (std::size_t i = 0; i < messages.size(); ++i) {
            note.tasks[i] = Task{};
            note.tasks[i].subscription = subscription;
            note.tasks[i].message.id = messages[i];
        }
        note.begun = static_cast<std::uint32_t>(messages.size());
        note.committing = committing;
    }

    int Judge() { return JudgeCrash(notes.get(), now += kSecond); }

    std::multiset<MessageId> List(bool guilty) const {
        std::multiset<MessageId> ids;
        for (const Suspect &suspect : notes->suspects)
            if (suspect.database != 0 && suspect.guilty == guilty) ids.insert(suspect.task.message.id);
        return ids;
    }

    std::int32_t CrashesOf(MessageId id) const {
        for (const Suspect &suspect : notes->suspects)
            if (suspect.database != 0 && suspect.task.message.id == id) return suspect.crashes;
        return 0;
    }

    std::int32_t OffencesOf(SubscriptionId id) const {
        for (const Offender &offender : notes->offenders)
            if (offender.database != 0 && offender.subscription == id) return offender.crashes;
        return 0;
    }

    using Ids = std::multiset<MessageId>;

    std::unique_ptr<CrashNotes> notes = std::make_unique<CrashNotes>();
    Microseconds now = 1000 * kSecond;
};

TEST_F(CrashNotesTest, NothingNotedNobodyBlamed) {
    EXPECT_EQ(Judge(), 0);
    EXPECT_EQ(List(true), Ids());
    EXPECT_EQ(List(false), Ids());
}

TEST_F(CrashNotesTest, OnlyTheTaskThatRanIsGuilty) {
    Run(3, {10, 11, 12});
    EXPECT_EQ(Judge(), 1);
    EXPECT_EQ(List(true), Ids({12}));
    EXPECT_EQ(List(false), Ids());
    EXPECT_EQ(CrashesOf(12), 1);
    EXPECT_EQ(OffencesOf(1), 1);
}

TEST_F(CrashNotesTest, NotesAreClearedByTheJudgement) {
    Run(3, {10});
    Judge();
    EXPECT_EQ(Judge(), 0);
    EXPECT_EQ(CrashesOf(10), 1);
}

TEST_F(CrashNotesTest, AtTheCommitOfABatchAllAreSuspects) {
    Run(0, {10, 11}, 1, true);
    EXPECT_EQ(Judge(), 2);
    EXPECT_EQ(List(true), Ids());
    EXPECT_EQ(List(false), Ids({10, 11}));
    EXPECT_EQ(OffencesOf(1), 1);
}

TEST_F(CrashNotesTest, AtTheCommitOfASingleTaskItIsGuilty) {
    Run(0, {10}, 1, true);
    Judge();
    EXPECT_EQ(List(true), Ids({10}));
}

TEST_F(CrashNotesTest, SeveralAreSuspectsUntilOneIsSeenAgain) {
    Run(0, {10}, 1);
    Run(1, {20}, 2);
    Judge();
    EXPECT_EQ(List(false), Ids({10, 20}));

    Run(0, {20}, 2);
    Run(1, {30}, 3);
    Judge();
    EXPECT_EQ(List(true), Ids({20}));
    EXPECT_EQ(List(false), Ids({10}));
    EXPECT_EQ(CrashesOf(20), 2);
    EXPECT_EQ(CrashesOf(30), 0);
    EXPECT_EQ(OffencesOf(1), 1);
    EXPECT_EQ(OffencesOf(2), 2);
    EXPECT_EQ(OffencesOf(3), 0);
}

TEST_F(CrashNotesTest, OneThatMayHaveHadHelpIsASuspectAtFirst) {
    Run(0, {10});
    notes->running[0].doubtful = true;
    Judge();
    EXPECT_EQ(List(true), Ids());
    EXPECT_EQ(List(false), Ids({10}));
    Run(0, {10});
    notes->running[0].doubtful = true;
    Judge();
    EXPECT_EQ(List(true), Ids({10}));
    EXPECT_EQ(CrashesOf(10), 2);
    // Recorded, and again: its subscription is known by now.
    notes->suspects[0] = Suspect{};
    Run(0, {10});
    notes->running[0].doubtful = true;
    Judge();
    EXPECT_EQ(List(true), Ids({10}));
    EXPECT_EQ(CrashesOf(10), 1);
}

TEST_F(CrashNotesTest, OneThatEndedByItselfClearsThoseThatWereTold) {
    Run(0, {10});
    notes->running[0].doubtful = true;
    Run(1, {20});
    Judge();
    EXPECT_EQ(List(true), Ids({20}));
    EXPECT_EQ(List(false), Ids());
}

TEST_F(CrashNotesTest, TheSameIdOfAnotherExtensionIsAnotherTask) {
    Run(0, {10});
    Run(1, {20});
    Judge();
    Run(0, {10});
    notes->running[0].extension = 7;
    Run(1, {30});
    Judge();
    EXPECT_EQ(List(true), Ids());
    EXPECT_EQ(List(false), Ids({10, 10, 20, 30}));
}

TEST_F(CrashNotesTest, OffencesAreForgivenAfterAWhile) {
    Run(0, {10});
    Judge();
    now += kForgiven - 2 * kSecond;
    Run(0, {11});
    Judge();
    EXPECT_EQ(OffencesOf(1), 2);
    now += kForgiven;
    Run(0, {12});
    Judge();
    EXPECT_EQ(OffencesOf(1), 1);
}

TEST_F(CrashNotesTest, WithoutRoomTheOldestAreLetGo) {
    for (int i = 0; i < kSuspects + 10; ++i) {
        Run(0, {100 + i}, 1 + i);
        Judge();
    }
    EXPECT_EQ(List(true).size(), static_cast<std::size_t>(kSuspects));
    EXPECT_EQ(CrashesOf(100), 0);
    EXPECT_EQ(CrashesOf(100 + kSuspects), 1);
    EXPECT_EQ(OffencesOf(1), 0);
    EXPECT_EQ(OffencesOf(kSuspects + 10), 1);
}

TEST_F(CrashNotesTest, GarbageIsBounded) {
    Run(0, {10});
    notes->running[0].begun = 4000000000u;
    EXPECT_EQ(Judge(), 1);
}

TEST_F(CrashNotesTest, RestsGrowAndAreBounded) {
    EXPECT_EQ(RestAfter(1), kSecond);
    EXPECT_EQ(RestAfter(2), 2 * kSecond);
    EXPECT_EQ(RestAfter(3), 4 * kSecond);
    EXPECT_EQ(RestAfter(100), 60 * kSecond);
    EXPECT_EQ(RestAfter(-5), kSecond);
    EXPECT_EQ(RestAfter(2147483647), 60 * kSecond);
}

}  // namespace

}  // namespace herald::core
