// Every change to a key ends in RefreshLine, which alone decides what the line offers: its first
// parked task through due_, or else its first waiting one through ready_, or nothing while a task
// of the key runs. Everything else only keeps the indexes in step.

#include "core/subscription_queue.hpp"

#include <algorithm>

namespace herald::core {

namespace {

// References to forgotten tasks are skipped when they come up, but a paused subscription that is
// purged again and again never gets there. They are swept out when they outnumber what is alive by
// this many, which makes the cost per forgotten task constant.
constexpr std::size_t kToleratedWaste = 1024;

template <typename Keep>
void Filter(MessageQueue &queue, const Keep &keep) {
    MessageQueue kept;
    for (; !queue.Empty(); queue.PopFront())
        if (keep(queue.Front())) kept.PushBack(queue.Front());
    queue = std::move(kept);
}

}  // namespace

bool SubscriptionQueue::Add(const MessageRef &message) {
    if (!seen_.Insert(message.id)) return false;
    AddUntried(message);
    return true;
}

void SubscriptionQueue::MarkSettled(MessageId id) {
    seen_.Insert(id);
    ForgetUntried(id);
}

bool SubscriptionQueue::AddAgain(const MessageRef &message) {
    if (IsUntried(message) || parked_.contains(message.id) || IsRunning(message.id)) return false;
    seen_.Insert(message.id);
    AddUntried(message);
    return true;
}

bool SubscriptionQueue::AddParked(const MessageRef &message, std::int32_t attempts, Microseconds due) {
    if (IsUntried(message) || parked_.contains(message.id) || IsRunning(message.id)) return false;
    seen_.Insert(message.id);
    Park({message, attempts, 0, false}, std::max(due, kAtOnce + 1));
    return true;
}

void SubscriptionQueue::AdoptRun(const std::vector<Entry> &entries) {
    ++last_run_;
    for (const Entry &entry : entries) {
        if (IsRunning(entry.message.id)) continue;
        Forget(entry.message.id);
        seen_.Insert(entry.message.id);
        StartRunning(entry, last_run_);
    }
}

std::vector<SubscriptionQueue::Entry> SubscriptionQueue::TakeRun(Microseconds now, std::size_t limit) {
    std::vector<Entry> taken;
    ++last_run_;
    while (taken.size() < limit) {
        const auto next = TakeNext(now, taken.empty());
        if (!next) break;
        StartRunning(*next, last_run_);
        taken.push_back(*next);
        if (next->alone) break;
    }
    return taken;
}

// None also where the next one is to be alone and is not the first.
std::optional<SubscriptionQueue::Entry> SubscriptionQueue::TakeNext(Microseconds now, bool first) {
    if (!due_.empty() && due_.begin()->first <= now) {
        const auto parked = parked_.find(due_.begin()->second);
        const Entry entry = parked->second.entry;
        if (entry.alone && !first) return std::nullopt;
        Unpark(parked);
        return entry;
    }

    if (ready_count_ == 0 && !StageOne()) return std::nullopt;
    const MessageRef message = ready_.Front();
    untried_.Erase(message.id);
    --untried_count_;
    WithdrawUntried(message.id);
    return Entry{message, 0, 0, false};
}

std::size_t SubscriptionQueue::CountReady(Microseconds now, std::size_t limit) {
    std::size_t count = 0;
    for (auto due = due_.begin(); due != due_.end() && due->first <= now && count < limit; ++due) ++count;
    while (count + ready_count_ < limit && StageOne()) {
    }
    return std::min(count + ready_count_, limit);
}

bool SubscriptionQueue::Finish(MessageId id) {
    if (!IsRunning(id)) return false;
    StopRunning(id);
    return true;
}

bool SubscriptionQueue::Retry(const MessageRef &message, std::int32_t attempts, Microseconds due, bool alone) {
    // Parked before the key is set free, so that no later task of the key is offered in between.
    if (!IsRunning(message.id)) return false;
    Park({message, attempts, 0, alone}, std::max(due, kAtOnce + 1));
    StopRunning(message.id);
    return true;
}

bool SubscriptionQueue::Return(MessageId id, std::int32_t losses, bool alone, Microseconds due) {
    const auto running = running_.find(id);
    if (running == running_.end()) return false;
    const Entry &entry = running->second.entry;
    Park({entry.message, entry.attempts, losses, alone}, due);
    StopRunning(id);
    return true;
}

bool SubscriptionQueue::Forget(MessageId id) {
    const auto parked = parked_.find(id);
    if (parked == parked_.end()) return ForgetUntried(id);
    const std::uint32_t key = parked->second.entry.message.key_hash;
    Unpark(parked);
    RefreshLine(key);
    return true;
}

bool SubscriptionQueue::Claim(MessageId id, std::int32_t attempts) {
    const auto parked = parked_.find(id);
    if (parked == parked_.end() || parked->second.entry.attempts > attempts) return false;
    const Entry entry = parked->second.entry;
    Unpark(parked);
    RefreshLine(entry.message.key_hash);
    StartRunning(entry, ++last_run_);
    return true;
}

void SubscriptionQueue::DropWaiting() {
    const auto running = std::move(running_);
    const RunId last_run = last_run_;
    *this = SubscriptionQueue();
    last_run_ = last_run;
    for (const auto &[id, task] : running) {
        seen_.Insert(id);
        StartRunning(task.entry, task.run);
    }
}

std::optional<Microseconds> SubscriptionQueue::NextDue(Microseconds now) const {
    const auto next = due_.upper_bound({now, std::numeric_limits<MessageId>::max()});
    if (next == due_.end()) return std::nullopt;
    return next->first;
}

std::optional<Microseconds> SubscriptionQueue::OldestPublishedAt() const {
    std::optional<Microseconds> oldest;
    const auto consider = [&oldest](Microseconds published_at) {
        if (!oldest || published_at < *oldest) oldest = published_at;
    };
    if (!fresh_.Empty()) consider(fresh_.Front().published_at);
    if (!ready_.Empty()) consider(ready_.Front().published_at);
    if (!line_published_.empty()) consider(line_published_.begin()->first);
    if (!parked_published_.empty()) consider(parked_published_.begin()->first);
    return oldest;
}

void SubscriptionQueue::AddUntried(const MessageRef &message) {
    if (!aside_.empty() && aside_.contains(message.id)) {
        Park({message, 0, 0, true}, std::numeric_limits<Microseconds>::max());
        return;
    }
    untried_.Insert(message.id);
    ++untried_count_;
    fresh_.PushBack(message);
}

void SubscriptionQueue::Park(const Entry &entry, Microseconds due) {
    const MessageRef &message = entry.message;
    parked_.emplace(message.id, Parked{entry, due});
    if (entry.attempts == 0) ++parked_untried_count_;
    parked_published_.emplace(message.published_at, message.id);
    if (message.key_hash == 0) {
        due_.emplace(due, message.id);
    } else {
        lines_[message.key_hash].parked.emplace(due != kAtOnce, message.id);
        RefreshLine(message.key_hash);
    }
}

// Leaves the line as it is, without this task: whoever calls decides what comes next and refreshes.
void SubscriptionQueue::Unpark(std::unordered_map<MessageId, Parked>::iterator parked) {
    const auto &[entry, due] = parked->second;
    const MessageRef &message = entry.message;
    due_.erase({due, message.id});
    parked_published_.erase({message.published_at, message.id});
    if (entry.attempts == 0) --parked_untried_count_;
    if (message.key_hash != 0) lines_.at(message.key_hash).parked.erase({due != kAtOnce, message.id});
    parked_.erase(parked);
}

void SubscriptionQueue::StartRunning(const Entry &entry, RunId run) {
    running_.emplace(entry.message.id, RunningTask{entry, run});
    ++runs_[run];
    if (entry.message.key_hash != 0) {
        ++lines_[entry.message.key_hash].running;
        RefreshLine(entry.message.key_hash);
    }
}

void SubscriptionQueue::StopRunning(MessageId id) {
    const auto running = running_.find(id);
    const std::uint32_t key = running->second.entry.message.key_hash;
    const auto run = runs_.find(running->second.run);
    if (--run->second == 0) runs_.erase(run);
    running_.erase(running);
    if (key != 0) {
        --lines_.at(key).running;
        RefreshLine(key);
    }
}

bool SubscriptionQueue::ForgetUntried(MessageId id) {
    if (!untried_.Erase(id)) return false;
    --untried_count_;
    WithdrawUntried(id);
    const auto front = line_fronts_.find(id);
    if (front != line_fronts_.end()) RefreshLine(front->second);
    while (!fresh_.Empty() && !IsUntried(fresh_.Front())) fresh_.PopFront();
    CompactIfWasteful();
    return true;
}

void SubscriptionQueue::RefreshLine(std::uint32_t key) {
    const auto found = lines_.find(key);
    if (found == lines_.end()) return;
    KeyLine &line = found->second;

    while (!line.waiting.Empty() && !IsUntried(line.waiting.Front())) PopLine(line, key);
    if (!line.waiting.Empty()) {
        line_fronts_.emplace(line.waiting.Front().id, key);
        line_published_.emplace(line.waiting.Front().published_at, key);
    }

    std::optional<DueKey> offer;
    if (line.running == 0 && !line.parked.empty()) {
        const MessageId id = line.parked.begin()->second;
        offer.emplace(parked_.at(id).due, id);
    }
    if (line.offered && line.offered != offer) due_.erase(*line.offered);
    if (offer) due_.insert(*offer);
    line.offered = offer;

    if (!line.waiting.Empty()) {
        if (line.running == 0 && line.parked.empty())
            OfferUntried(line.waiting.Front());
        else
            WithdrawUntried(line.waiting.Front().id);
    }
    if (line.running == 0 && line.parked.empty() && line.waiting.Empty()) lines_.erase(found);
}

void SubscriptionQueue::PopLine(KeyLine &line, std::uint32_t key) {
    const MessageRef &front = line.waiting.Front();
    line_fronts_.erase(front.id);
    line_published_.erase({front.published_at, key});
    line.waiting.PopFront();
    --line_entries_;
}

// Moves tasks out of fresh_ until one more may start. Those behind a busy key go to its line: each
// task makes that way once, so a long run of them is paid for when it was added.
bool SubscriptionQueue::StageOne() {
    const std::size_t before = ready_count_;
    while (ready_count_ == before && !fresh_.Empty()) {
        const MessageRef message = fresh_.Front();
        fresh_.PopFront();
        if (!IsUntried(message)) continue;
        if (message.key_hash == 0) {
            OfferUntried(message);
        } else {
            lines_[message.key_hash].waiting.PushBack(message);
            ++line_entries_;
            RefreshLine(message.key_hash);
        }
    }
    while (!fresh_.Empty() && !IsUntried(fresh_.Front())) fresh_.PopFront();
    return ready_count_ > before;
}

void SubscriptionQueue::OfferUntried(const MessageRef &message) {
    if (!ready_ids_.Insert(message.id)) return;
    ++ready_count_;
    ready_.PushBack(message);
    if (ready_.Size() <= 2 * ready_count_ + kToleratedWaste) return;

    // A task that was withdrawn and offered again stands there twice: the first place counts.
    IdSet kept;
    Filter(ready_, [&](const MessageRef &entry) { return ready_ids_.Contains(entry.id) && kept.Insert(entry.id); });
}

void SubscriptionQueue::WithdrawUntried(MessageId id) {
    if (!ready_ids_.Erase(id)) return;
    --ready_count_;
    while (!ready_.Empty() && !ready_ids_.Contains(ready_.Front().id)) ready_.PopFront();
}

void SubscriptionQueue::CompactIfWasteful() {
    if (fresh_.Size() + line_entries_ <= 2 * untried_count_ + kToleratedWaste) return;
    const auto is_untried = [this](const MessageRef &message) { return IsUntried(message); };
    Filter(fresh_, is_untried);
    line_entries_ = 0;
    for (auto &[key, line] : lines_) {
        Filter(line.waiting, is_untried);
        line_entries_ += line.waiting.Size();
    }
}

}  // namespace herald::core
