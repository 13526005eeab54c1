// What a backlog of two million tasks weighs, and that its size is not felt where it must not be.
// Every allocation of the test program is counted through the global operator new.

#include <malloc.h>

#include <cstdlib>
#include <new>

#include "scheduler_fixture.hpp"

namespace {
std::size_t live_bytes = 0;
}

// std::stable_sort asks for the nothrow form, which would else be the sanitizer's. Not inlined: where
// GCC sees only one half of such a pair it warns that malloc and delete differ.
[[gnu::noinline]] void *operator new(std::size_t bytes, const std::nothrow_t &) noexcept {
    void *const memory = std::malloc(bytes);
    if (memory) live_bytes += malloc_usable_size(memory);
    return memory;
}

[[gnu::noinline]] void *operator new(std::size_t bytes) {
    void *const memory = operator new(bytes, std::nothrow);
    if (!memory) throw std::bad_alloc();
    return memory;
}

[[gnu::noinline]] void operator delete(void *memory) noexcept {
    if (memory) live_bytes -= malloc_usable_size(memory);
    std::free(memory);
}

[[gnu::noinline]] void operator delete(void *memory, std::size_t) noexcept { operator delete(memory); }

namespace herald::core {
namespace {

constexpr MessageId kBacklog = 2'000'000;
constexpr std::size_t kMebibyte = 1024 * 1024;

class SchedulerMemoryTest : public SchedulerTest {
protected:
    // As a busy log has them: 60 rows a block, 20 us apart, every tenth id another channel's.
    void AddBacklog(MessageId backlog, std::uint32_t keys) {
        MessageId id = 5'000'000'000;
        for (MessageId count = 0; count < backlog; ++count) {
            id += count % 9 == 0 ? 2 : 1;
            const auto key = keys ? 1 + static_cast<std::uint32_t>(count * 2654435761u % keys) : 0;
            scheduler.AddMessage(kChannel,
                                 {id, 800'000'000'000'000 + count * 20, static_cast<std::uint32_t>(count / 60),
                                  static_cast<std::uint16_t>(count % 60 + 1), 0, key});
        }
    }

    const std::size_t before_ = live_bytes;
    std::size_t Used() const { return live_bytes - before_; }
};

TEST_F(SchedulerMemoryTest, BacklogFitsTheBudget) {
    scheduler.Configure({Config()});
    AddBacklog(kBacklog, 0);
    EXPECT_GT(Used(), 10 * kMebibyte);  // or nothing was counted
    EXPECT_LT(Used(), 20 * kMebibyte);
    EXPECT_EQ(scheduler.Gauges(kSub)->pending, static_cast<std::size_t>(kBacklog));
}

TEST_F(SchedulerMemoryTest, DrainedBacklogLeavesOnlyWhatWasSeen) {
    scheduler.Configure({Config()});
    AddBacklog(200'000, 50'000);
    std::size_t taken = 0;
    MessageId last = 0;
    while (const auto task = TakeTask()) {
        ASSERT_GT(task->message.id, last);
        last = task->message.id;
        ++taken;
        scheduler.Finish(kSub, last);
    }
    EXPECT_EQ(taken, 200'000u);
    EXPECT_LT(Used(), kMebibyte / 16);
}

TEST_F(SchedulerMemoryTest, BacklogWithKeysFitsTheBudget) {
    scheduler.Configure({Config()});
    AddBacklog(kBacklog, 1'000'000);
    EXPECT_LT(Used(), 32 * kMebibyte);
    EXPECT_EQ(DemandOf(kRole), 4u);
    EXPECT_LT(Used(), 32 * kMebibyte);
}

TEST_F(SchedulerMemoryTest, BacklogBehindOneBusyKeyFitsTheBudget) {
    scheduler.Configure({Config()});
    AddBacklog(kBacklog / 4, 1);
    EXPECT_NE(TakeId(), 0);
    EXPECT_EQ(TakeId(), 0);  // the whole backlog moved into the line of the key
    EXPECT_LT(Used(), 8 * kMebibyte);
}

TEST_F(SchedulerMemoryTest, PausedBacklogIsNotTouchedByOthers) {
    SubscriptionConfig paused = Config(1);
    scheduler.Configure({paused, Config(2, 4, kRole, 77)});
    AddBacklog(kBacklog / 4, 3);
    paused.runnable = false;
    scheduler.Configure({paused, Config(2, 4, kRole, 77)});
    // A look at every waiting task in each of these rounds would take hours.
    const std::size_t backlog = Used();
    for (MessageId id = 1; id <= 20'000; ++id) {
        scheduler.AddMessage(77, Message(id));
        ASSERT_EQ(DemandOf(kRole), 1u);
        ASSERT_EQ(TakeId(), id);
        scheduler.Finish(2, id);
    }
    EXPECT_LT(Used(), backlog + kMebibyte / 4);
    EXPECT_EQ(scheduler.Gauges(1)->pending, static_cast<std::size_t>(kBacklog / 4));
}

TEST_F(SchedulerMemoryTest, RemovedSubscriptionGivesItsMemoryBack) {
    scheduler.Configure({Config()});
    AddBacklog(kBacklog / 10, 1000);
    TakeId();
    scheduler.Configure({});
    EXPECT_LT(Used(), kMebibyte / 16);
    EXPECT_GT(Used(), 0u);
}

TEST_F(SchedulerMemoryTest, LastReportOfARemovedSubscriptionLeavesNothing) {
    std::vector<SubscriptionConfig> configs;
    for (SubscriptionId id = 1; id <= 1000; ++id) configs.push_back(Config(id));
    scheduler.Configure(configs);
    AddMessages(1, 1);
    ASSERT_EQ(TakeAll().size(), 1000u);
    scheduler.Configure({});
    const std::size_t running = Used();
    for (SubscriptionId id = 1; id <= 1000; ++id) {
        if (id % 3 == 0)
            scheduler.Finish(id, 1);
        else if (id % 3 == 1)
            scheduler.Retry(id, ParkedMessage(1), 1, 0);
        else
            scheduler.Return(id, 1, 1);
    }
    // `configs` and the buckets of the hash tables remain.
    EXPECT_LT(Used(), running / 10);
}

TEST_F(SchedulerMemoryTest, TaskThatIsPassedAgainAndAgainLeavesNoTrace) {
    scheduler.Configure({Config()});
    AddMessages(1, 1);
    AddMessages(2, 2, 9);
    ASSERT_EQ(DemandOf(kRole), 2u);
    for (MessageId id = 1000; id < 50'000; ++id) {
        scheduler.AddParked(kSub, ParkedMessage(id, 9), 0, 0);
        ASSERT_EQ(TakeId(), id);
        scheduler.Finish(kSub, id);
    }
    EXPECT_LT(Used(), kMebibyte / 32);
}

TEST_F(SchedulerMemoryTest, PurgedBacklogGivesItsMemoryBack) {
    scheduler.Configure({Config()});
    scheduler.SetRunnable(kSub, false);
    for (MessageId id = 1; id <= 200'000; ++id) scheduler.AddMessage(kChannel, Message(id, id % 2 ? 9 : 0));
    // The first one stays, so the front of the queue alone frees nothing.
    for (MessageId id = 2; id <= 200'000; ++id) scheduler.Forget(kSub, id);
    EXPECT_LT(Used(), kMebibyte / 8);
    scheduler.SetRunnable(kSub, true);
    EXPECT_EQ(TakeAll(), (Ids{1}));
}

}  // namespace
}  // namespace herald::core
