// Who comes next: roles and their subscriptions take turns, the one served longest ago first. The
// tasks of each subscription are in its SubscriptionQueue; here are the limits, the turns, and what
// remains of subscriptions that are not configured yet or not any more.

#include "core/scheduler.hpp"

#include <algorithm>
#include <unordered_set>

namespace herald::core {

std::vector<SubscriptionId> Scheduler::Configure(const std::vector<SubscriptionConfig>& configs) {
    std::unordered_set<SubscriptionId> wanted;
    std::unordered_set<RoleId> roles;
    for (const SubscriptionConfig& config : configs) {
        wanted.insert(config.id);
        roles.insert(config.role);
    }

    for (auto entry = subscriptions_.begin(); entry != subscriptions_.end();) {
        Subscription& subscription = entry->second;
        Unlist(subscription);
        if (wanted.contains(entry->first)) {
            ++entry;
        } else if (subscription.queue.Running() == 0) {
            entry = subscriptions_.erase(entry);
        } else {
            subscription.standing = Standing::kRemoved;
            subscription.queue.DropWaiting();
            ++entry;
        }
    }
    std::erase_if(roles_, [&roles](const auto& entry) { return !roles.contains(entry.first); });

    channels_.clear();
    std::vector<SubscriptionId> added;
    for (const SubscriptionConfig& config : configs) {
        Subscription& subscription = subscriptions_[config.id];
        if (subscription.standing != Standing::kConfigured)
            added.push_back(config.id);
        subscription.standing = Standing::kConfigured;
        subscription.config = config;
        channels_[config.channel].push_back(config.id);
        Relist(subscription);
    }
    return added;
}

std::size_t Scheduler::AddMessage(ChannelId channel, const MessageRef& message) {
    const auto found = channels_.find(channel);
    if (found == channels_.end())
        return 0;
    std::size_t made = 0;
    for (const SubscriptionId id : found->second)
        made += AddMessageFor(id, message);
    return made;
}

bool Scheduler::AddMessageFor(SubscriptionId id, const MessageRef& message) {
    Subscription* const subscription = FindConfigured(id);
    if (!subscription || !subscription->queue.Add(message))
        return false;
    Relist(*subscription);
    return true;
}

void Scheduler::MarkSettled(SubscriptionId id, MessageId message) {
    Subscription* const subscription = FindConfigured(id);
    if (!subscription)
        return;
    subscription->queue.MarkSettled(message);
    Relist(*subscription);
}

bool Scheduler::AddParked(SubscriptionId id, const MessageRef& message, std::int32_t attempts,
                          Microseconds due) {
    Subscription* const subscription = FindConfigured(id);
    if (!subscription || !subscription->queue.AddParked(message, attempts, due))
        return false;
    Relist(*subscription);
    return true;
}

void Scheduler::AdoptRunning(const Task& task) {
    Subscription& subscription = subscriptions_[task.subscription];
    subscription.queue.AdoptRunning({task.message, task.attempts, task.losses});
    Relist(subscription);
}

bool Scheduler::IsRunning(SubscriptionId id, MessageId message) const {
    const Subscription* const subscription = Find(id);
    return subscription && subscription->queue.IsRunning(message);
}

std::optional<Task> Scheduler::Take(RoleId role_id, Microseconds now) {
    const auto found = roles_.find(role_id);
    if (found == roles_.end())
        return std::nullopt;
    Role& role = found->second;

    for (auto entry = role.listed.begin(); entry != role.listed.end();) {
        const SubscriptionId id = entry->second;
        ++entry;  // first, because Relist may take this one out
        Subscription& subscription = subscriptions_.at(id);
        const auto taken = subscription.queue.Take(now);
        if (taken) {
            Unlist(subscription);
            role.turn = subscription.turn = ++turns_;
        }
        Relist(subscription);
        if (taken)
            return Task{id, taken->message, taken->attempts, taken->losses};
    }
    return std::nullopt;
}

std::vector<Scheduler::RoleDemand> Scheduler::Demand(Microseconds now) {
    struct Served {
        std::uint64_t turn;
        RoleDemand demand;
    };
    std::vector<Served> served;
    for (auto& [role_id, role] : roles_) {
        std::size_t tasks = 0;
        for (auto entry = role.listed.begin(); entry != role.listed.end();) {
            Subscription& subscription = subscriptions_.at(entry->second);
            ++entry;
            tasks += subscription.queue.CountReady(now, FreeSlots(subscription));
            Relist(subscription);
        }
        if (tasks > 0)
            served.push_back({role.turn, {role_id, tasks}});
    }
    std::sort(served.begin(), served.end(), [](const Served& left, const Served& right) {
        return std::pair(left.turn, left.demand.role) < std::pair(right.turn, right.demand.role);
    });

    std::vector<RoleDemand> demand;
    demand.reserve(served.size());
    for (const Served& entry : served)
        demand.push_back(entry.demand);
    return demand;
}

void Scheduler::Finish(SubscriptionId id, MessageId message) {
    Subscription* const subscription = Find(id);
    if (!subscription)
        return;
    subscription->queue.Finish(message);
    AfterReport(id, *subscription);
}

void Scheduler::Retry(SubscriptionId id, const MessageRef& message, std::int32_t attempts,
                      Microseconds due) {
    Subscription* const subscription = Find(id);
    if (!subscription)
        return;
    subscription->queue.Retry(message, attempts, due);
    AfterReport(id, *subscription);
}

void Scheduler::Return(SubscriptionId id, MessageId message, std::int32_t losses) {
    Subscription* const subscription = Find(id);
    if (!subscription)
        return;
    subscription->queue.Return(message, losses);
    AfterReport(id, *subscription);
}

bool Scheduler::Forget(SubscriptionId id, MessageId message) {
    Subscription* const subscription = FindConfigured(id);
    if (!subscription || !subscription->queue.Forget(message))
        return false;
    Relist(*subscription);
    return true;
}

void Scheduler::SetRunnable(SubscriptionId id, bool runnable) {
    Subscription* const subscription = FindConfigured(id);
    if (!subscription)
        return;
    subscription->config.runnable = runnable;
    Relist(*subscription);
}

// Of subscriptions that are not dealt the due times don't count: waking up for them leads nowhere,
// and when one is resumed the caller asks again anyway.
std::optional<Microseconds> Scheduler::NextDue(Microseconds now) const {
    std::optional<Microseconds> next;
    for (const auto& [id, subscription] : subscriptions_) {
        if (subscription.standing != Standing::kConfigured || !subscription.config.runnable)
            continue;
        const auto due = subscription.queue.NextDue(now);
        if (due && (!next || *due < *next))
            next = due;
    }
    return next;
}

std::optional<SubscriptionGauges> Scheduler::Gauges(SubscriptionId id) const {
    const Subscription* const subscription = FindConfigured(id);
    if (!subscription)
        return std::nullopt;
    const SubscriptionQueue& queue = subscription->queue;
    return SubscriptionGauges{queue.Pending(), queue.Running(), queue.Retrying(),
                              queue.OldestPublishedAt()};
}

std::vector<SubscriptionId> Scheduler::Subscriptions() const {
    std::vector<SubscriptionId> ids;
    for (const auto& [id, subscription] : subscriptions_)
        if (subscription.standing == Standing::kConfigured)
            ids.push_back(id);
    std::sort(ids.begin(), ids.end());
    return ids;
}

Scheduler::Subscription* Scheduler::Find(SubscriptionId id) {
    const auto found = subscriptions_.find(id);
    return found == subscriptions_.end() ? nullptr : &found->second;
}

const Scheduler::Subscription* Scheduler::Find(SubscriptionId id) const {
    const auto found = subscriptions_.find(id);
    return found == subscriptions_.end() ? nullptr : &found->second;
}

Scheduler::Subscription* Scheduler::FindConfigured(SubscriptionId id) {
    Subscription* const found = Find(id);
    return found && found->standing == Standing::kConfigured ? found : nullptr;
}

const Scheduler::Subscription* Scheduler::FindConfigured(SubscriptionId id) const {
    const Subscription* const found = Find(id);
    return found && found->standing == Standing::kConfigured ? found : nullptr;
}

std::size_t Scheduler::FreeSlots(const Subscription& subscription) {
    const auto limit =
        static_cast<std::size_t>(std::max<std::int32_t>(subscription.config.max_concurrency, 0));
    const std::size_t running = subscription.queue.Running();
    return limit > running ? limit - running : 0;
}

// To be called after anything that may change whether the subscription has a task to give.
void Scheduler::Relist(Subscription& subscription) {
    const bool wanted = subscription.standing == Standing::kConfigured &&
                        subscription.config.runnable && FreeSlots(subscription) > 0 &&
                        subscription.queue.MayGiveTask();
    if (!wanted) {
        Unlist(subscription);
    } else if (!subscription.listed_for) {
        const RoleId role = subscription.config.role;
        roles_[role].listed.emplace(subscription.turn, subscription.config.id);
        subscription.listed_for = role;
    }
}

// Turn and role of a subscription change only while it is not listed.
void Scheduler::Unlist(Subscription& subscription) {
    if (!subscription.listed_for)
        return;
    roles_.at(*subscription.listed_for).listed.erase({subscription.turn, subscription.config.id});
    subscription.listed_for.reset();
}

// Of a removed subscription nothing is dealt, whatever its reports put into the queue, and all of
// it goes with the last report.
void Scheduler::AfterReport(SubscriptionId id, Subscription& subscription) {
    if (subscription.standing == Standing::kRemoved && subscription.queue.Running() == 0)
        subscriptions_.erase(id);
    else
        Relist(subscription);
}

}  // namespace herald::core
