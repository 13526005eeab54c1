// Random calls to the scheduler and to a simple model, compared after every step. A failure names
// its seed: HERALD_TEST_SEED=<seed> makes the first episode that very one.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <tuple>

#include "scheduler_model.hpp"

namespace herald::core {
namespace {

class Episode {
public:
    explicit Episode(std::uint64_t seed) : random_(seed) {}

    void Run() {
        // Few keys make long lines, many keys make much that is ready.
        keys_ = 1 + Pick(6);
        steps_per_id_ = 1 + Pick(4);
        for (int step = 0; step < 400 && !testing::Test::HasFailure(); ++step) {
            Step();
            Compare();
        }
    }

private:
    std::uint64_t Pick(std::uint64_t bound) { return random_() % bound; }

    SubscriptionId AnySubscription() { return static_cast<SubscriptionId>(1 + Pick(5)); }

    // Published times grow with every call, so that the oldest one is exact.
    MessageRef AnyMessage() {
        const auto span = static_cast<std::uint64_t>(clock_) / steps_per_id_ + 10;
        const auto id = static_cast<MessageId>(Pick(2) ? span - Pick(10) : 1 + Pick(span));
        const auto key = static_cast<std::uint32_t>(Pick(2) ? id % static_cast<MessageId>(keys_) + 1 : 0);
        return {id, ++clock_, static_cast<std::uint32_t>(Pick(1000)), 0, 0, keyed_.emplace(id, key).first->second};
    }

    MessageId AnyRunning(const ModelSubscription &model) {
        if (model.running.empty() || Pick(8) == 0) return AnyMessage().id;
        auto entry = model.running.begin();
        std::advance(entry, static_cast<std::ptrdiff_t>(Pick(model.running.size())));
        return entry->first;
    }

    void Step() {
        const SubscriptionId id = AnySubscription();
        switch (Pick(23)) {
            case 0:
            case 1:
            case 2:
            case 3:
                return AddMessage();
            case 4:
                return AddMessageFor(id);
            case 5:
                return MarkSettled(id);
            case 6:
            case 7:
                return AddParked(id);
            case 8:
                return Pick(4) ? void() : AdoptRunning(id);
            case 9:
            case 10:
            case 11:
            case 12:
                return Take();
            case 13:
            case 14:
            case 15:
                return Finish(id);
            case 16:
                return Retry(id);
            case 17:
                return Return(id);
            case 18:
                return Forget(id);
            case 19:
                return SetRunnable(id);
            case 20:
                return Pick(5) && clock_ > 1 ? void() : Configure();
            case 21:
                return NoteBatch(id);
            default:
                now_ += static_cast<Microseconds>(Pick(30));
        }
    }

    ModelSubscription *Configured(SubscriptionId id) {
        const auto found = models_.find(id);
        return found != models_.end() && found->second.configured ? &found->second : nullptr;
    }

    bool AddToModel(SubscriptionId id, const MessageRef &message) {
        ModelSubscription *const model = Configured(id);
        if (!model || !model->seen.insert(message.id).second) return false;
        model->untried.push_back(message);
        return true;
    }

    void AddMessage() {
        const MessageRef message = AnyMessage();
        const auto channel = static_cast<ChannelId>(Pick(2));
        std::size_t made = 0;
        for (auto &[id, model] : models_)
            if (model.configured && model.config.channel == channel) made += AddToModel(id, message);
        EXPECT_EQ(scheduler_.AddMessage(channel, message), made);
    }

    void AddMessageFor(SubscriptionId id) {
        const MessageRef message = AnyMessage();
        EXPECT_EQ(scheduler_.AddMessageFor(id, message), AddToModel(id, message));
    }

    void MarkSettled(SubscriptionId id) {
        const MessageId message = AnyMessage().id;
        scheduler_.MarkSettled(id, message);
        ModelSubscription *const model = Configured(id);
        if (!model) return;
        model->seen.insert(message);
        std::erase_if(model->untried, [&](const MessageRef &other) { return other.id == message; });
    }

    void AddParked(SubscriptionId id) {
        MessageRef message = AnyMessage();
        message.segment = kParkedSegment;
        const auto attempts = static_cast<std::int32_t>(Pick(3));
        const Microseconds due = now_ + static_cast<Microseconds>(Pick(100)) - 50;
        ModelSubscription *const model = Configured(id);
        const bool taken = model && !model->Waits(message.id) && !model->running.contains(message.id);
        EXPECT_EQ(scheduler_.AddParked(id, message, attempts, due), taken);
        if (!taken) return;
        model->seen.insert(message.id);
        model->parked[message.id] = {message, attempts, 0, due, false};
    }

    void AdoptRunning(SubscriptionId id) {
        if (removed_.contains(id)) return;  // ids are never reused
        std::vector<Task> batch;
        ModelSubscription &model = models_[id];
        ++runs_;
        for (std::uint64_t count = 1 + Pick(3); count > 0; --count) {
            const MessageRef message = AnyMessage();
            batch.push_back({id, message, 1, 2, false});
            model.Forget(message.id);
            model.seen.insert(message.id);
            model.running.try_emplace(message.id, ModelTask{message, 1, 2, 0, false, false, runs_});
        }
        scheduler_.AdoptRunning(batch);
        awaited_.insert(id);
    }

    void Take() {
        const auto role = static_cast<RoleId>(Pick(3));
        const std::size_t workers = 1 + Pick(4);
        const auto batch = scheduler_.Take(role, now_, workers);
        ModelSubscription *next = nullptr;
        for (auto &[id, model] : models_)
            if (model.config.role == role && model.Startable(now_) > 0 && (!next || model.turn < next->turn))
                next = &model;
        ASSERT_EQ(!batch.empty(), next != nullptr);
        if (!next) return;
        const std::size_t wanted = next->BatchFor(workers, now_);
        ++runs_;
        for (const Task &task : batch) {
            ASSERT_EQ(task.subscription, next->config.id);
            // It counts as one of those that run, so that no other of its key is ready.
            ASSERT_STREQ(next->WhyNot(task, now_), nullptr);
            ASSERT_TRUE(!task.alone || batch.size() == 1);
            next->Forget(task.message.id);
            next->running[task.message.id] = {task.message, task.attempts, task.losses, 0, false, task.alone, runs_};
        }
        ASSERT_LE(batch.size(), wanted);
        if (batch.size() < wanted && !batch.front().alone) {
            const auto parked = next->ReadyParked(now_);
            ASSERT_TRUE(!parked.empty() && parked.front().alone);
        }
        next->turn = role_turns_[role] = ++turns_;
    }

    void NoteBatch(SubscriptionId id) {
        const auto tasks = static_cast<std::size_t>(Pick(kMaxBatch));
        const auto duration = static_cast<Microseconds>(Pick(100));
        const bool trouble = Pick(4) == 0;
        scheduler_.NoteBatch(id, tasks, duration, 5000, trouble);
        const auto model = models_.find(id);
        if (model == models_.end() || !Known(id)) return;
        if (trouble)
            model->second.batch_size.NoteTrouble();
        else
            model->second.batch_size.NoteCalm(tasks, duration, 5000);
    }

    // The scheduler has something of it: it is configured, or has tasks that run.
    bool Known(SubscriptionId id) {
        return models_[id].configured || !models_[id].running.empty() || awaited_.contains(id);
    }

    // What a task leaves behind when it stops running; none where it did not run.
    std::optional<ModelTask> Stop(SubscriptionId id, MessageId message) {
        const auto model = models_.find(id);
        if (model == models_.end()) return std::nullopt;
        const auto node = model->second.running.extract(message);
        if (node.empty() || model->second.removed) return std::nullopt;
        return node.mapped();
    }

    void Finish(SubscriptionId id) {
        const MessageId message = AnyRunning(models_[id]);
        scheduler_.Finish(id, message);
        Stop(id, message);
    }

    void Retry(SubscriptionId id) {
        MessageRef message = AnyMessage();
        message.id = AnyRunning(models_[id]);
        message.key_hash = keyed_[message.id];
        message.segment = kParkedSegment;
        const auto attempts = static_cast<std::int32_t>(1 + Pick(3));
        const Microseconds due = now_ + static_cast<Microseconds>(Pick(100)) - 20;
        const bool alone = Pick(3) == 0;
        scheduler_.Retry(id, message, attempts, due, alone);
        if (Stop(id, message.id)) models_[id].parked[message.id] = {message, attempts, 0, due, false, alone};
    }

    void Return(SubscriptionId id) {
        const MessageId message = AnyRunning(models_[id]);
        const auto losses = static_cast<std::int32_t>(Pick(3));
        const bool alone = Pick(3) == 0;
        scheduler_.Return(id, message, losses, alone);
        auto task = Stop(id, message);
        if (!task) return;
        task->losses = losses;
        task->returned = true;
        task->alone = alone;
        models_[id].parked[message] = *task;
    }

    void Forget(SubscriptionId id) {
        const MessageId message = AnyMessage().id;
        ModelSubscription *const model = Configured(id);
        EXPECT_EQ(scheduler_.Forget(id, message), model && model->Forget(message));
    }

    void SetRunnable(SubscriptionId id) {
        const bool runnable = Pick(3) > 0;
        scheduler_.SetRunnable(id, runnable);
        if (ModelSubscription *const model = Configured(id)) model->config.runnable = runnable;
    }

    void Configure() {
        std::vector<SubscriptionConfig> configs;
        std::vector<SubscriptionId> added;
        std::set<RoleId> roles;
        for (SubscriptionId id = 1; id <= 5; ++id) {
            ModelSubscription &model = models_[id];
            if (removed_.contains(id)) continue;
            if (Pick(12) == 0) {
                removed_.insert(id);
                model.removed = true;
                model.configured = false;
                model.untried.clear();
                model.parked.clear();
                continue;
            }
            if (!model.configured) added.push_back(id);
            model.configured = true;
            model.config = {id,
                            static_cast<ChannelId>(Pick(2)),
                            static_cast<RoleId>(Pick(3)),
                            static_cast<std::int32_t>(Pick(6)),
                            Pick(4) > 0,
                            Pick(4) > 0};
            configs.push_back(model.config);
            roles.insert(model.config.role);
        }
        std::erase_if(role_turns_, [&](const auto &entry) { return !roles.contains(entry.first); });
        EXPECT_EQ(scheduler_.Configure(configs), added);
    }

    void Compare() {
        std::map<RoleId, std::size_t> startable;
        std::optional<Microseconds> next_due;
        for (const auto &[id, model] : models_) {
            if (const std::size_t tasks = model.Startable(now_)) startable[model.config.role] += tasks;
            const auto due = model.NextDue(now_);
            if (due && (!next_due || *due < *next_due)) next_due = due;

            for (const auto &[message, task] : model.running) ASSERT_TRUE(scheduler_.IsRunning(id, message));
            const auto gauges = scheduler_.Gauges(id);
            ASSERT_EQ(gauges.has_value(), model.configured);
            if (!gauges) continue;
            const SubscriptionGauges wanted = model.Gauges();
            ASSERT_EQ(gauges->pending, wanted.pending);
            ASSERT_EQ(gauges->running, wanted.running);
            ASSERT_EQ(gauges->retrying, wanted.retrying);
            ASSERT_EQ(gauges->oldest_published_at, wanted.oldest_published_at);
        }
        ASSERT_EQ(scheduler_.NextDue(now_), next_due);

        // Not every time: looking at the demand moves tasks inside the scheduler.
        if (Pick(3) > 0) return;
        std::vector<std::tuple<std::uint64_t, RoleId, std::size_t>> wanted;
        for (const auto &[role, tasks] : startable) wanted.emplace_back(role_turns_[role], role, tasks);
        std::sort(wanted.begin(), wanted.end());
        const auto demand = scheduler_.Demand(now_);
        ASSERT_EQ(demand.size(), wanted.size());
        for (std::size_t i = 0; i < demand.size(); ++i) {
            ASSERT_EQ(demand[i].role, std::get<1>(wanted[i]));
            ASSERT_EQ(demand[i].workers, std::get<2>(wanted[i]));
        }
    }

    std::mt19937_64 random_;
    std::uint64_t keys_ = 1;
    std::uint64_t steps_per_id_ = 1;
    Microseconds clock_ = 0;
    Microseconds now_ = 0;
    Scheduler scheduler_;
    std::map<SubscriptionId, ModelSubscription> models_;
    std::set<SubscriptionId> removed_;
    std::map<MessageId, std::uint32_t> keyed_;  // a message has one key for all its life
    std::map<RoleId, std::uint64_t> role_turns_;
    std::set<SubscriptionId> awaited_;  // adopted before they were configured
    std::uint64_t turns_ = 0;
    std::uint64_t runs_ = 0;
};

TEST(SchedulerRandom, AgreesWithTheModel) {
    const char *const given = std::getenv("HERALD_TEST_SEED");
    std::uint64_t seed = !given                           ? 1
                         : std::string(given) == "random" ? std::random_device()()
                                                          : std::strtoull(given, nullptr, 10);
    std::printf("first seed: %llu\n", static_cast<unsigned long long>(seed));

    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
    int episodes = 0;
    for (; std::chrono::steady_clock::now() < end && !HasFailure(); ++seed, ++episodes) {
        SCOPED_TRACE("HERALD_TEST_SEED=" + std::to_string(seed));
        Episode(seed).Run();
    }
    std::printf("%d episodes\n", episodes);
}

}  // namespace
}  // namespace herald::core
