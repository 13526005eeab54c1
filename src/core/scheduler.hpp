// The dispatcher's memory: which tasks wait, which run, and which comes next. One Scheduler per
// database, owned by one process; it knows no clock, no table and no process, so that every rule
// can be tested without a server.
//
// Rules: every message becomes at most one task per subscription (an id set remembers what was
// seen); workers get tasks in batches of one subscription, whose tasks run one after the other, and a
// subscription never has more than max_concurrency batches running; tasks with the same key run one
// at a time in the order they came, across retries; subscriptions take turns.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/batch_size.hpp"
#include "core/subscription_queue.hpp"
#include "core/task.hpp"

namespace herald::core {

struct SubscriptionConfig {
    SubscriptionId id;
    ChannelId channel;
    RoleId role;
    std::int32_t max_concurrency;
    bool runnable;  // false while paused, held or inert: tasks are collected but not dealt
    bool batch;     // false: each task alone
};

// Kept up to date with every change, so that reading them costs nothing.
struct SubscriptionGauges {
    std::size_t pending;   // never tried, waiting for a worker, or for its turn in a batch
    std::size_t running;   // batches
    std::size_t retrying;  // waiting for their next attempt (or for their turn after a failed one)
    std::optional<Microseconds> oldest_published_at;  // of pending and retrying tasks
};

class Scheduler {
public:
    // Replaces the set of subscriptions. A subscription that is gone loses its waiting tasks; its
    // running ones are remembered until they report. What existed keeps its tasks.
    // Returns the ids of the subscriptions that are new: their messages must be fed by a scan.
    std::vector<SubscriptionId> Configure(const std::vector<SubscriptionConfig> &configs);

    // A message of a channel, committed. Makes a task for each subscription of the channel that has
    // not seen it. Returns the number of tasks made.
    std::size_t AddMessage(ChannelId channel, const MessageRef &message);

    // The same for one subscription only (a scan for a new subscription).
    bool AddMessageFor(SubscriptionId subscription, const MessageRef &message);

    // A task of the parked table that is not to wait for a time: as AddMessageFor, though its log entry
    // is settled. False where it is already waiting or running.
    bool AddAgain(SubscriptionId subscription, const MessageRef &message);

    // The log entry `message` of `subscription` needs no work: it is settled.
    void MarkSettled(SubscriptionId subscription, MessageId message);

    // A task of the parked table. False, and nothing done, where the task is already waiting or
    // running. `due`: not before.
    bool AddParked(SubscriptionId subscription, const MessageRef &message, std::int32_t attempts, Microseconds due);

    // The batch that a worker holds since before this scheduler existed. Its tasks count as running,
    // whether or not their subscription is configured yet.
    void AdoptRunning(const std::vector<Task> &batch);

    // True if the task is running (dealt or adopted).
    bool IsRunning(SubscriptionId subscription, MessageId message) const;

    // What a worker of `role` is to run next in one transaction: tasks of one subscription, or
    // nothing. They count as running from here on. `now` decides which retries are due. `workers`:
    // how many workers of the role wait for a task, this one included; the ready tasks are shared
    // out to as many of them as the subscription may have.
    std::vector<Task> Take(RoleId role, Microseconds now, std::size_t workers = 1);

    // The roles that have a task ready to run now, each with the number of workers that could start
    // (bounded by max_concurrency), in the order in which they should be served.
    struct RoleDemand {
        RoleId role;
        std::size_t workers;
    };
    std::vector<RoleDemand> Demand(Microseconds now);
    // The same of one role.
    std::size_t DemandOf(RoleId role, Microseconds now);

    // How a batch of the subscription went, for the size of its next ones: `tasks` of it ran in
    // `duration`. `batch_time`: how long a batch may take. `trouble`: it had to be cut short.
    void NoteBatch(SubscriptionId subscription, std::size_t tasks, Microseconds duration, Microseconds batch_time,
                   bool trouble);

    // What became of a running task. Each is a no-op for a task that is not running.
    void Finish(SubscriptionId subscription, MessageId message);  // done, dead or cancelled
    // `message` replaces the reference the task had: its payload lies in the parked table now.
    // `alone`: not in a batch with others.
    void Retry(SubscriptionId subscription, const MessageRef &message, std::int32_t attempts, Microseconds due,
               bool alone = false);
    // Hands the task back: it runs again at once, before younger ones, or when it is due. `losses` is
    // what the next worker is told.
    void Return(SubscriptionId subscription, MessageId message, std::int32_t losses, bool alone = false,
                Microseconds due = SubscriptionQueue::kAtOnce);

    // Forgets a waiting task (cancelled, purged). False where it does not wait.
    bool Forget(SubscriptionId subscription, MessageId message);

    // A task that is added from here on waits aside, until it is claimed; until ForgetAside.
    void SetAside(SubscriptionId subscription, MessageId message);
    void ForgetAside();
    // Takes a task out of turn, whatever the limits, that is parked or was set aside: it runs from here
    // on. False where it is not, or has failed more often.
    bool Claim(SubscriptionId subscription, MessageId message, std::int32_t attempts);

    // Stops or allows dealing for one subscription, without a new configuration.
    void SetRunnable(SubscriptionId subscription, bool runnable);
    // Changes its limit, likewise.
    void SetMaxConcurrency(SubscriptionId subscription, std::int32_t max_concurrency);
    bool IsRunnable(SubscriptionId subscription) const;

    // When the next retry falls due that is not due at `now`; none where nothing waits for a time.
    std::optional<Microseconds> NextDue(Microseconds now) const;

    std::optional<SubscriptionGauges> Gauges(SubscriptionId subscription) const;
    std::vector<SubscriptionId> Subscriptions() const;
    // Memory of the ids of messages that were seen. It grows for all time.
    std::size_t SeenBytes() const;

private:
    enum class Standing : std::uint8_t {
        kAwaited,     // only adopted tasks are known; next: kConfigured or kRemoved
        kConfigured,  // next: kRemoved
        kRemoved,     // kept until its running tasks have reported
    };

    struct Subscription {
        SubscriptionConfig config{};  // valid while kConfigured
        Standing standing = Standing::kAwaited;
        std::uint64_t turn = 0;            // when it was last served, in Takes
        std::optional<RoleId> listed_for;  // the role that has it in `listed`
        BatchSize batch_size;
        SubscriptionQueue queue;
    };

    struct Role {
        std::uint64_t turn = 0;
        // Its subscriptions that may have a task to give, longest unserved first. Others, paused
        // ones above all, are not looked at when a task is taken.
        std::set<std::pair<std::uint64_t, SubscriptionId>> listed;
    };

    Subscription *Find(SubscriptionId id);
    const Subscription *Find(SubscriptionId id) const;
    Subscription *FindConfigured(SubscriptionId id);
    const Subscription *FindConfigured(SubscriptionId id) const;
    static std::size_t FreeSlots(const Subscription &subscription);
    std::size_t CountStartable(Role &role, Microseconds now);
    void Relist(Subscription &subscription);
    void Unlist(Subscription &subscription);
    void AfterReport(SubscriptionId id, Subscription &subscription);

    std::unordered_map<SubscriptionId, Subscription> subscriptions_;
    std::unordered_map<ChannelId, std::vector<SubscriptionId>> channels_;
    std::unordered_map<RoleId, Role> roles_;  // those of configured subscriptions
    std::uint64_t turns_ = 0;
};

}  // namespace herald::core
