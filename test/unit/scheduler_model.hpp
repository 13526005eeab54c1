// A scheduler that is slow and obvious: lists that are searched from end to end. The random test
// asks it which answers the real one may give.

#pragma once

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "core/scheduler.hpp"

namespace herald::core {

struct ModelTask {
    MessageRef message;
    std::int32_t attempts = 0;
    std::int32_t losses = 0;
    Microseconds due = 0;
    bool returned = false;
    bool alone = false;
    std::uint64_t run = 0;  // of a running one
};

struct ModelSubscription {
    SubscriptionConfig config{};
    bool configured = false;
    bool removed = false;
    std::uint64_t turn = 0;
    std::set<MessageId> seen;
    std::vector<MessageRef> untried;  // in the order they came
    std::map<MessageId, ModelTask> parked;
    std::map<MessageId, ModelTask> running;
    BatchSize batch_size;  // has tests of its own

    std::size_t Runs() const {
        std::set<std::uint64_t> runs;
        for (const auto &[id, task] : running) runs.insert(task.run);
        return runs.size();
    }

    bool KeyRuns(std::uint32_t key) const {
        return key != 0 && std::any_of(running.begin(), running.end(),
                                       [key](const auto &entry) { return entry.second.message.key_hash == key; });
    }

    // Parked or handed back, and nothing of its key runs or goes before it.
    bool IsOffered(const ModelTask &task) const {
        const std::uint32_t key = task.message.key_hash;
        if (key == 0) return true;
        if (KeyRuns(key)) return false;
        for (const auto &[id, other] : parked)
            if (other.message.key_hash == key &&
                std::pair(!other.returned, id) < std::pair(!task.returned, task.message.id))
                return false;
        return true;
    }

    // In the order in which they must be taken.
    std::vector<ModelTask> ReadyParked(Microseconds now) const {
        std::vector<ModelTask> ready;
        for (const auto &[id, task] : parked)
            if (IsOffered(task) && (task.returned || task.due <= now)) ready.push_back(task);
        std::sort(ready.begin(), ready.end(), [](const ModelTask &left, const ModelTask &right) {
            return std::tuple(!left.returned, left.returned ? 0 : left.due, left.message.id) <
                   std::tuple(!right.returned, right.returned ? 0 : right.due, right.message.id);
        });
        return ready;
    }

    std::vector<MessageRef> ReadyUntried() const {
        std::vector<MessageRef> ready;
        std::set<std::uint32_t> keys;
        for (const auto &[id, task] : parked) keys.insert(task.message.key_hash);
        for (const MessageRef &message : untried) {
            const std::uint32_t key = message.key_hash;
            if (key == 0 || (!KeyRuns(key) && keys.insert(key).second)) ready.push_back(message);
        }
        return ready;
    }

    std::size_t FreeSlots() const {
        const auto slots = static_cast<std::ptrdiff_t>(config.max_concurrency) - static_cast<std::ptrdiff_t>(Runs());
        return slots <= 0 ? 0 : static_cast<std::size_t>(slots);
    }

    std::size_t Ready(Microseconds now) const { return ReadyParked(now).size() + ReadyUntried().size(); }

    std::size_t Startable(Microseconds now) const {
        if (!configured || !config.runnable) return 0;
        return std::min(Ready(now), FreeSlots());
    }

    // Tasks of the next batch, where none of them is to be alone.
    std::size_t BatchFor(std::size_t workers, Microseconds now) const {
        const std::size_t limit = config.batch ? batch_size.Limit() : 1;
        const std::size_t takers = std::max<std::size_t>(std::min(workers, FreeSlots()), 1);
        return std::min((Ready(now) + takers - 1) / takers, limit);
    }

    // Empty where the task may be taken now, else why not.
    const char *WhyNot(const Task &task, Microseconds now) const {
        const auto parked_ready = ReadyParked(now);
        if (!parked_ready.empty()) {
            const ModelTask &first = parked_ready.front();
            if (first.message.id != task.message.id) return "a due task goes first";
            if (first.attempts != task.attempts) return "wrong attempts";
            if (first.losses != task.losses) return "wrong losses";
            if (first.alone != task.alone) return "wrong mark";
            if (first.message.block != task.message.block) return "old reference";
            return nullptr;
        }
        const auto ready = ReadyUntried();
        bool passed_keyless = false;
        for (const MessageRef &message : ready) {
            if (message.id == task.message.id) {
                if (passed_keyless && message.key_hash == 0) return "an older keyless task waits";
                if (task.attempts != 0 || task.losses != 0 || task.alone) return "never tried, yet charged";
                return nullptr;
            }
            passed_keyless = passed_keyless || message.key_hash == 0;
        }
        return "not ready";
    }

    std::optional<Microseconds> NextDue(Microseconds now) const {
        std::optional<Microseconds> next;
        if (!configured || !config.runnable) return next;
        for (const auto &[id, task] : parked)
            if (!task.returned && task.due > now && IsOffered(task) && (!next || task.due < *next)) next = task.due;
        return next;
    }

    SubscriptionGauges Gauges() const {
        const std::size_t runs = Runs();
        SubscriptionGauges gauges{untried.size() + running.size() - runs, runs, 0, std::nullopt};
        auto oldest = std::numeric_limits<Microseconds>::max();
        for (const MessageRef &message : untried) oldest = std::min(oldest, message.published_at);
        for (const auto &[id, task] : parked) {
            oldest = std::min(oldest, task.message.published_at);
            ++(task.attempts == 0 ? gauges.pending : gauges.retrying);
        }
        if (untried.size() + parked.size() > 0) gauges.oldest_published_at = oldest;
        return gauges;
    }

    bool Forget(MessageId id) {
        return parked.erase(id) > 0 ||
               std::erase_if(untried, [id](const MessageRef &message) { return message.id == id; }) > 0;
    }

    bool Waits(MessageId id) const {
        return parked.contains(id) || std::any_of(untried.begin(), untried.end(),
                                                  [id](const MessageRef &message) { return message.id == id; });
    }
};

}  // namespace herald::core
