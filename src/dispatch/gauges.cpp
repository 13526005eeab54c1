// See gauges.hpp.

#include "dispatch/gauges.hpp"

#include "stats/channel_counters.hpp"

namespace herald {

bool DispatchGauges::SetChannel(core::SubscriptionId subscription, const char *channel, Oid owner) {
    const bool known = channels_.count(subscription) != 0;
    ChannelOf &entry = channels_[subscription];
    pg::CopyString(entry.name, channel, sizeof(entry.name));
    entry.slot = ChannelCounterSlot(database_, channel, true, InvalidOid);
    entry.shared = PlaceSubscription(database_, subscription, owner, InvalidTransactionId);
    return known || entry.shared == nullptr || pg_atomic_read_u32(&entry.shared->pauses) == 0;
}

// The entry may have been taken away since it was looked up.
SubscriptionShared *DispatchGauges::SharedOf(core::SubscriptionId subscription, const ChannelOf &channel) const {
    if (channel.shared == nullptr || channel.shared->database != database_ ||
        channel.shared->subscription != subscription)
        return nullptr;
    return channel.shared;
}

void DispatchGauges::Forget(core::SubscriptionId subscription) {
    channels_.erase(subscription);
    RemoveSubscriptionShared(database_, subscription);
}

void DispatchGauges::Count(core::SubscriptionId subscription, Outcome outcome, int failures, int64 latency) {
    auto found = channels_.find(subscription);
    if (found == channels_.end()) return;  // it is gone
    ChannelOf &channel = found->second;
    if (!ChannelCounterSlotValid(channel.slot))
        channel.slot = ChannelCounterSlot(database_, channel.name, true, InvalidOid);
    SubscriptionShared *shared = SharedOf(subscription, channel);

    if (outcome == Outcome::kDone) {
        CountNow(channel.slot, ChannelCounter::kDelivered, 1);
        CountLatency(channel.slot, latency);
        if (shared != nullptr) {
            pg_atomic_fetch_add_u64(&shared->done, 1);
            CountSubscriptionLatency(shared, latency);
        }
    } else if (outcome == Outcome::kRetry || outcome == Outcome::kDead) {
        CountNow(channel.slot, ChannelCounter::kFailed, static_cast<uint64>(failures));
        if (outcome == Outcome::kDead) CountNow(channel.slot, ChannelCounter::kDead, 1);
        int retried = outcome == Outcome::kRetry ? failures : failures - 1;
        CountNow(channel.slot, ChannelCounter::kRetried, static_cast<uint64>(retried));
        if (shared != nullptr) pg_atomic_fetch_add_u64(&shared->failed, failures);
    }
}

void DispatchGauges::ShowGauges(DatabaseShared *database, const core::Scheduler &scheduler) const {
    std::size_t open = 0;
    TimestampTz oldest = 0;
    uint32 unplaced = 0;
    for (const auto &[subscription, channel] : channels_) {
        std::optional<core::SubscriptionGauges> gauges = scheduler.Gauges(subscription);
        SubscriptionShared *shared = SharedOf(subscription, channel);
        if (shared == nullptr) unplaced++;
        if (!gauges.has_value()) continue;
        const TimestampTz own = gauges->oldest_published_at.value_or(0);
        open += gauges->pending + gauges->running + gauges->retrying;
        if (own != 0 && (oldest == 0 || own < oldest)) oldest = own;
        if (shared == nullptr) continue;
        pg_atomic_write_u32(&shared->pending, static_cast<uint32>(gauges->pending));
        pg_atomic_write_u32(&shared->running, static_cast<uint32>(gauges->running));
        pg_atomic_write_u32(&shared->retrying, static_cast<uint32>(gauges->retrying));
        pg_atomic_write_u64(&shared->oldest_published_at, static_cast<uint64>(own));
    }
    pg_atomic_write_u32(&database->dispatcher.open_tasks, static_cast<uint32>(Min(open, std::size_t{PG_UINT32_MAX})));
    pg_atomic_write_u64(&database->dispatcher.oldest_published_at, static_cast<uint64>(oldest));
    pg_atomic_write_u32(&database->dispatcher.unplaced, unplaced);
}

void DispatchGauges::NotePauses() {
    for (auto &[subscription, channel] : channels_) {
        const SubscriptionShared *shared = SharedOf(subscription, channel);
        if (shared != nullptr) channel.pauses = pg_atomic_read_u32(&const_cast<SubscriptionShared *>(shared)->pauses);
    }
}

bool DispatchGauges::PauseRequested(core::SubscriptionId subscription) const {
    auto found = channels_.find(subscription);
    if (found == channels_.end()) return false;
    SubscriptionShared *shared = SharedOf(subscription, found->second);
    return shared != nullptr && (pg_atomic_read_u32(&shared->pause_requests) > 0 ||
                                 pg_atomic_read_u32(&shared->pauses) != found->second.pauses);
}

}  // namespace herald
