// What the tests of the scheduler share: short ways to write a message and a subscription.

#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <vector>

#include "core/scheduler.hpp"

namespace herald::core {

inline constexpr ChannelId kChannel = 10;
inline constexpr RoleId kRole = 100;
inline constexpr SubscriptionId kSub = 1;

inline MessageRef Message(MessageId id, std::uint32_t key_hash = 0) {
    return {id, 1000 + id, static_cast<std::uint32_t>(id / 50), static_cast<std::uint16_t>(id % 50), 1, key_hash};
}

inline MessageRef ParkedMessage(MessageId id, std::uint32_t key_hash = 0) {
    MessageRef message = Message(id, key_hash);
    message.segment = kParkedSegment;
    return message;
}

class SchedulerTest : public testing::Test {
protected:
    SubscriptionConfig Config(SubscriptionId id = kSub, std::int32_t max_concurrency = 4, RoleId role = kRole,
                              ChannelId channel = kChannel) {
        return {id, channel, role, max_concurrency, true, true};
    }

    // The next task; a batch of one as long as nothing is known of how long tasks take.
    std::optional<Task> TakeTask(Microseconds now = 0, RoleId role = kRole) {
        const auto batch = scheduler.Take(role, now);
        EXPECT_LE(batch.size(), 1u);
        return batch.empty() ? std::nullopt : std::optional(batch.front());
    }

    // The id of the next task, 0 for none.
    MessageId TakeId(Microseconds now = 0, RoleId role = kRole) {
        const auto task = TakeTask(now, role);
        return task ? task->message.id : 0;
    }

    SubscriptionId TakeSubscription(RoleId role = kRole) {
        const auto task = TakeTask(0, role);
        return task ? task->subscription : 0;
    }

    // The ids of the next batch.
    std::vector<MessageId> TakeBatch(std::size_t workers = 1, Microseconds now = 0, RoleId role = kRole) {
        std::vector<MessageId> ids;
        for (const Task &task : scheduler.Take(role, now, workers)) ids.push_back(task.message.id);
        return ids;
    }

    // Lets the subscription's batches grow to the largest size.
    void GrowBatches(SubscriptionId id = kSub) {
        for (std::size_t tasks = 1; tasks < kMaxBatch; tasks *= 2) scheduler.NoteBatch(id, tasks, 0, 1000, false);
    }

    std::vector<MessageId> TakeAll(Microseconds now = 0, RoleId role = kRole) {
        std::vector<MessageId> ids;
        while (const MessageId id = TakeId(now, role)) ids.push_back(id);
        return ids;
    }

    std::size_t DemandOf(RoleId role, Microseconds now = 0) {
        const std::size_t workers = scheduler.DemandOf(role, now);
        for (const auto &demand : scheduler.Demand(now)) {
            if (demand.role == role) {
                EXPECT_EQ(demand.workers, workers);
                return demand.workers;
            }
        }
        EXPECT_EQ(workers, 0u);
        return 0;
    }

    void AddMessages(MessageId first, MessageId last, std::uint32_t key_hash = 0) {
        for (MessageId id = first; id <= last; ++id) scheduler.AddMessage(kChannel, Message(id, key_hash));
    }

    Scheduler scheduler;
};

using Ids = std::vector<MessageId>;

}  // namespace herald::core
