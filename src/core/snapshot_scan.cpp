// See snapshot_scan.hpp. The heap gives the room of older rows to younger ones, so that rows come in any
// order.

#include "core/snapshot_scan.hpp"

#include <algorithm>

namespace herald::core {

namespace {

constexpr std::size_t kPortion = 64 * 1024;

template <class Item>
void SortById(std::vector<Item> *items) {
    std::sort(items->begin(), items->end(), [](const Item &a, const Item &b) { return a.message.id < b.message.id; });
}

}  // namespace

void SnapshotScan::AddParked(SubscriptionId subscription, const MessageRef &message, std::int32_t attempts,
                             Microseconds due) {
    Enter(Phase::kParked);
    parked_[subscription].Insert(message.id);
    std::vector<Waiting> *const found = message.key_hash == 0 ? &waiting_ : &waiting_keyed_;
    found->push_back({subscription, message, attempts, due});
    if (waiting_.size() == kPortion) Flush(&waiting_);
}

// A parked task is settled in the log; its parked row says so, too.
void SnapshotScan::AddSettled(SubscriptionId subscription, MessageId message) {
    Enter(Phase::kSettled);
    const auto parked = parked_.find(subscription);
    if (parked == parked_.end() || !parked->second.Contains(message)) scheduler_->MarkSettled(subscription, message);
}

void SnapshotScan::AddLogged(ChannelId channel, const MessageRef &message) {
    Enter(Phase::kLog);
    std::vector<Logged> *const found = message.key_hash == 0 ? &logged_ : &logged_keyed_;
    found->push_back({channel, message});
    if (logged_.size() == kPortion) Flush(&logged_);
}

void SnapshotScan::Finish() {
    Enter(Phase::kLog);
    Flush(&logged_);
    Flush(&logged_keyed_);
}

void SnapshotScan::Enter(Phase phase) {
    if (phase == phase_) return;
    if (phase_ == Phase::kParked) {
        Flush(&waiting_);
        Flush(&waiting_keyed_);
    }
    phase_ = phase;
}

void SnapshotScan::Flush(std::vector<Waiting> *found) {
    SortById(found);
    for (const Waiting &each : *found) {
        // Rotation parks tasks that are due at once, and there may be very many of them.
        if (each.attempts == 0 && each.due == each.message.published_at)
            scheduler_->AddAgain(each.subscription, each.message);
        else
            scheduler_->AddParked(each.subscription, each.message, each.attempts, each.due);
    }
    found->clear();
}

void SnapshotScan::Flush(std::vector<Logged> *found) {
    SortById(found);
    for (const Logged &each : *found) scheduler_->AddMessage(each.channel, each.message);
    found->clear();
}

}  // namespace herald::core
