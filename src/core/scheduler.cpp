// Who comes next: roles and their subscriptions take turns, the one served longest ago first. The
// tasks of each subscription are in its SubscriptionQueue; here are the limits, the turns, and what
// remains of subscriptions that are not configured yet or not any more.

#include "core/scheduler.hpp"

#include <algorithm>
#include <unordered_set>

namespace herald::core {

std::vector<SubscriptionId> Scheduler::Configure(const std::vector<SubscriptionConfig> &configs) {
    std::unordered_set<SubscriptionId> wanted;
    std::unordered_set<RoleId> roles;
    for (const SubscriptionConfig &config : configs) {
        wanted.insert(config.id);
        roles.insert(config.role);
    }

    for (auto entry = subscriptions_.begin(); entry != subscriptions_.end();) {
        Subscription &subscription = entry->second;
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
    std::erase_if(roles_, [&roles](const auto &entry) { return !roles.contains(entry.first); });

    channels_.clear();
    std::vector<SubscriptionId> added;
    for (const SubscriptionConfig &config : configs) {
        Subscription &subscription = subscriptions_[config.id];
        if (subscription.standing != Standing::kConfigured) added.push_back(config.id);
        subscription.standing = Standing::kConfigured;
        subscription.config = config;
        channels_[config.channel].push_back(config.id);
        Relist(subscription);
    }
    return added;
}

std::size_t Scheduler::AddMessage(ChannelId channel, const MessageRef &message) {
    const auto found = channels_.find(channel);
    if (found == channels_.end()) return 0;
    std::size_t made = 0;
    for (const SubscriptionId id : found->second) made += AddMessageFor(id, message);
    return made;
}

bool Scheduler::AddMessageFor(SubscriptionId id, const MessageRef &message) {
    Subscription *const subscription = FindConfigured(id);
    if (!subscription || !subscription->queue.Add(message)) return false;
    Relist(*subscription);
    return true;
}

bool Scheduler::AddAgain(SubscriptionId id, const MessageRef &message) {
    Subscription *const subscription = FindConfigured(id);
    if (!subscription || !subscription->queue.AddAgain(message)) return false;
    Relist(*subscription);
    return true;
}

void Scheduler::MarkSettled(SubscriptionId id, MessageId message) {
    Subscription *const subscription = FindConfigured(id);
    if (!subscription) return;
    subscription->queue.MarkSettled(message);
    Relist(*subscription);
}

bool Scheduler::AddParked(SubscriptionId id, const MessageRef &message, std::int32_t attempts, Microseconds due) {
    Subscription *const subscription = FindConfigured(id);
    if (!subscription || !subscription->queue.AddParked(message, attempts, due)) return false;
    Relist(*subscription);
    return true;
}

void Scheduler::AdoptRunning(const std::vector<Task> &batch) {
    if (batch.empty()) return;
    std::vector<SubscriptionQueue::Entry> entries;
    for (const Task &task : batch) entries.push_back({task.message, task.attempts, task.losses, task.alone});
    Subscription &subscription = subscriptions_[batch.front().subscription];
    subscription.queue.AdoptRun(entries);
    Relist(subscription);
}

bool Scheduler::IsRunning(SubscriptionId id, MessageId message) const {
    const Subscription *const subscription = Find(id);
    return subscription && subscription->queue.IsRunning(message);
}

std::vector<Task> Scheduler::Take(RoleId role_id, Microseconds now, std::size_t workers) {
    std::vector<Task> batch;
    const auto found = roles_.find(role_id);
    if (found == roles_.end()) return batch;
    Role &role = found->second;

    for (auto entry = role.listed.begin(); entry != role.listed.end();) {
        const SubscriptionId id = entry->second;
        ++entry;  // first, because Relist may take this one out
        Subscription &subscription = subscriptions_.at(id);
        SubscriptionQueue &queue = subscription.queue;
        std::size_t limit = subscription.config.batch ? subscription.batch_size.Limit() : 1;
        if (limit > 1) {
            const std::size_t takers = std::max<std::size_t>(std::min(workers, FreeSlots(subscription)), 1);
            const std::size_t ready = queue.CountReady(now, takers * limit);
            limit = (ready + takers - 1) / takers;
        }
        const auto taken = queue.TakeRun(now, std::max<std::size_t>(limit, 1));
        if (!taken.empty()) {
            Unlist(subscription);
            role.turn = subscription.turn = ++turns_;
        }
        Relist(subscription);
        if (taken.empty()) continue;
        batch.reserve(taken.size());
        for (const SubscriptionQueue::Entry &entry : taken)
            batch.push_back({id, entry.message, entry.attempts, entry.losses, entry.alone});
        return batch;
    }
    return batch;
}

void Scheduler::NoteBatch(SubscriptionId id, std::size_t tasks, Microseconds duration, Microseconds batch_time,
                          bool trouble) {
    Subscription *const subscription = Find(id);
    if (!subscription) return;
    if (trouble)
        subscription->batch_size.NoteTrouble();
    else
        subscription->batch_size.NoteCalm(tasks, duration, batch_time);
}

// Bounded by what each subscription may have; looks at tasks ahead, which moves them inside their queues.
std::size_t Scheduler::CountStartable(Role &role, Microseconds now) {
    std::size_t count = 0;
    for (auto entry = role.listed.begin(); entry != role.listed.end();) {
        Subscription &subscription = subscriptions_.at(entry->second);
        ++entry;
        count += subscription.queue.CountReady(now, FreeSlots(subscription));
        Relist(subscription);
    }
    return count;
}

std::size_t Scheduler::DemandOf(RoleId role, Microseconds now) {
    const auto found = roles_.find(role);
    return found == roles_.end() ? 0 : CountStartable(found->second, now);
}

std::vector<Scheduler::RoleDemand> Scheduler::Demand(Microseconds now) {
    struct Served {
        std::uint64_t turn;
        RoleDemand demand;
    };
    std::vector<Served> served;
    for (auto &[role_id, role] : roles_) {
        const std::size_t workers = CountStartable(role, now);
        if (workers > 0) served.push_back({role.turn, {role_id, workers}});
    }
    std::sort(served.begin(), served.end(), [](const Served &left, const Served &right) {
        return std::pair(left.turn, left.demand.role) < std::pair(right.turn, right.demand.role);
    });

    std::vector<RoleDemand> demand;
    demand.reserve(served.size());
    for (const Served &entry : served) demand.push_back(entry.demand);
    return demand;
}

void Scheduler::Finish(SubscriptionId id, MessageId message) {
    Subscription *const subscription = Find(id);
    if (!subscription) return;
    subscription->queue.Finish(message);
    AfterReport(id, *subscription);
}

void Scheduler::Retry(SubscriptionId id, const MessageRef &message, std::int32_t attempts, Microseconds due,
                      bool alone) {
    Subscription *const subscription = Find(id);
    if (!subscription) return;
    subscription->queue.Retry(message, attempts, due, alone);
    AfterReport(id, *subscription);
}

void Scheduler::Return(SubscriptionId id, MessageId message, std::int32_t losses, bool alone, Microseconds due) {
    Subscription *const subscription = Find(id);
    if (!subscription) return;
    subscription->queue.Return(message, losses, alone, due);
    AfterReport(id, *subscription);
}

bool Scheduler::Forget(SubscriptionId id, MessageId message) {
    Subscription *const subscription = FindConfigured(id);
    if (!subscription || !subscription->queue.Forget(message)) return false;
    Relist(*subscription);
    return true;
}

void Scheduler::SetAside(SubscriptionId id, MessageId message) {
    Subscription *const subscription = FindConfigured(id);
    if (subscription) subscription->queue.SetAside(message);
}

void Scheduler::ForgetAside() {
    for (auto &[id, subscription] : subscriptions_) subscription.queue.ForgetAside();
}

bool Scheduler::Claim(SubscriptionId id, MessageId message, std::int32_t attempts) {
    Subscription *const subscription = FindConfigured(id);
    if (!subscription || !subscription->queue.Claim(message, attempts)) return false;
    Relist(*subscription);
    return true;
}

void Scheduler::SetMaxConcurrency(SubscriptionId id, std::int32_t max_concurrency) {
    Subscription *const subscription = FindConfigured(id);
    if (!subscription) return;
    subscription->config.max_concurrency = max_concurrency;
    Relist(*subscription);
}

void Scheduler::SetRunnable(SubscriptionId id, bool runnable) {
    Subscription *const subscription = FindConfigured(id);
    if (!subscription) return;
    subscription->config.runnable = runnable;
    Relist(*subscription);
}

bool Scheduler::IsRunnable(SubscriptionId id) const {
    const Subscription *const subscription = FindConfigured(id);
    return subscription && subscription->config.runnable;
}

// The due times of subscriptions that are not dealt don't count: waking up for them leads nowhere,
// and when one is resumed the caller asks again anyway.
std::optional<Microseconds> Scheduler::NextDue(Microseconds now) const {
    std::optional<Microseconds> next;
    for (const auto &[id, subscription] : subscriptions_) {
        if (subscription.standing != Standing::kConfigured || !subscription.config.runnable) continue;
        const auto due = subscription.queue.NextDue(now);
        if (due && (!next || *due < *next)) next = due;
    }
    return next;
}

std::optional<SubscriptionGauges> Scheduler::Gauges(SubscriptionId id) const {
    const Subscription *const subscription = FindConfigured(id);
    if (!subscription) return std::nullopt;
    const SubscriptionQueue &queue = subscription->queue;
    // One task of a batch runs at a time; the others wait as much as those outside.
    const std::size_t runs = queue.Runs();
    return SubscriptionGauges{queue.Pending() + queue.Running() - runs, runs, queue.Retrying(),
                              queue.OldestPublishedAt()};
}

std::vector<SubscriptionId> Scheduler::Subscriptions() const {
    std::vector<SubscriptionId> ids;
    for (const auto &[id, subscription] : subscriptions_)
        if (subscription.standing == Standing::kConfigured) ids.push_back(id);
    std::sort(ids.begin(), ids.end());
    return ids;
}

std::size_t Scheduler::SeenBytes() const {
    std::size_t bytes = 0;
    for (const auto &[id, subscription] : subscriptions_) bytes += subscription.queue.SeenBytes();
    return bytes;
}

Scheduler::Subscription *Scheduler::Find(SubscriptionId id) {
    const auto found = subscriptions_.find(id);
    return found == subscriptions_.end() ? nullptr : &found->second;
}

const Scheduler::Subscription *Scheduler::Find(SubscriptionId id) const {
    const auto found = subscriptions_.find(id);
    return found == subscriptions_.end() ? nullptr : &found->second;
}

Scheduler::Subscription *Scheduler::FindConfigured(SubscriptionId id) {
    Subscription *const found = Find(id);
    return found && found->standing == Standing::kConfigured ? found : nullptr;
}

const Scheduler::Subscription *Scheduler::FindConfigured(SubscriptionId id) const {
    const Subscription *const found = Find(id);
    return found && found->standing == Standing::kConfigured ? found : nullptr;
}

std::size_t Scheduler::FreeSlots(const Subscription &subscription) {
    const auto limit = static_cast<std::size_t>(std::max<std::int32_t>(subscription.config.max_concurrency, 0));
    const std::size_t runs = subscription.queue.Runs();
    return limit > runs ? limit - runs : 0;
}

// To be called after anything that may change whether the subscription has a task to give.
void Scheduler::Relist(Subscription &subscription) {
    const bool wanted = subscription.standing == Standing::kConfigured && subscription.config.runnable &&
                        FreeSlots(subscription) > 0 && subscription.queue.MayGiveTask();
    if (!wanted) {
        Unlist(subscription);
    } else if (!subscription.listed_for) {
        const RoleId role = subscription.config.role;
        roles_[role].listed.emplace(subscription.turn, subscription.config.id);
        subscription.listed_for = role;
    }
}

// Turn and role of a subscription change only while it is not listed.
void Scheduler::Unlist(Subscription &subscription) {
    if (!subscription.listed_for) return;
    roles_.at(*subscription.listed_for).listed.erase({subscription.turn, subscription.config.id});
    subscription.listed_for.reset();
}

// Nothing of a removed subscription is dealt, whatever its reports put into the queue, and all of
// it goes with the last report.
void Scheduler::AfterReport(SubscriptionId id, Subscription &subscription) {
    if (subscription.standing == Standing::kRemoved && subscription.queue.Running() == 0)
        subscriptions_.erase(id);
    else
        Relist(subscription);
}

}  // namespace herald::core
