// What the tables say under one snapshot, brought to a scheduler that may know much of it already: as a
// difference. What it does not know is added by message id, what needs no more work is dropped, and what it
// knows stays where it is: a task may stand in the tables in more than one way, and none of them is
// a reason to take it out of its key's line and to put it behind younger ones.
//
// Rotation's first step, above all, leaves a task parked, settled and in the log at the same time, until
// the second one empties the segment, up to an hour later. Between the two there may come any scan (the
// outbox was full, a huge transaction, a new subscription, the twentieth sweep), a new dispatcher, a
// replay, an unsubscribe, a new subscription that begins with the earliest message, and whoever reads
// herald.tasks. For all of them the parked row is the task, and the settled one says only that the
// log entry isn't.

#pragma once

#include <cstddef>
#include <unordered_map>
#include <vector>

#include "core/id_set.hpp"
#include "core/scheduler.hpp"

namespace herald::core {

class SnapshotScan {
public:
    explicit SnapshotScan(Scheduler *scheduler) : scheduler_(scheduler) {}

    // First all parked tasks, then all settled entries, then the log, each in any order.
    void AddParked(SubscriptionId subscription, const MessageRef &message, std::int32_t attempts, Microseconds due);
    void AddSettled(SubscriptionId subscription, MessageId message);
    void AddLogged(ChannelId channel, const MessageRef &message);

    // Those with a key are kept until here, as their order matters; the others are sorted in portions, as
    // memory matters.
    void Finish();

private:
    enum class Phase { kParked, kSettled, kLog };

    struct Waiting {
        SubscriptionId subscription;
        MessageRef message;
        std::int32_t attempts;
        Microseconds due;
    };
    struct Logged {
        ChannelId channel;
        MessageRef message;
    };

    void Enter(Phase phase);
    void Flush(std::vector<Waiting> *found);
    void Flush(std::vector<Logged> *found);

    Scheduler *scheduler_;
    Phase phase_ = Phase::kParked;
    std::unordered_map<SubscriptionId, IdSet> parked_;
    std::vector<Waiting> waiting_, waiting_keyed_;
    std::vector<Logged> logged_, logged_keyed_;
};

}  // namespace herald::core
