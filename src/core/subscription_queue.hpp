// The tasks of one subscription and the order in which they may start. It knows nothing of
// concurrency limits, roles or other subscriptions: that is the Scheduler's part.
//
// Order: tasks handed back, then parked tasks (retries, delayed messages) by due time, then tasks
// never tried as they came. Tasks with the same key form a line: only its first may start, and
// only while none of that key runs. Keys get a line when their first task comes up for dealing,
// not before, so a backlog stays one packed queue.

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/id_set.hpp"
#include "core/message_queue.hpp"
#include "core/task.hpp"

namespace herald::core {

class SubscriptionQueue {
public:
    // The due time of a task that was handed back: it sorts before every parked one.
    static constexpr Microseconds kAtOnce = std::numeric_limits<Microseconds>::min();

    // A task without the name of its subscription.
    struct Entry {
        MessageRef message;
        std::int32_t attempts;
        std::int32_t losses;
        bool alone;
    };

    // A task from the log; false where the id was seen before.
    bool Add(const MessageRef &message);
    // The id counts as seen. A task never tried is dropped; one that is parked or runs stays.
    void MarkSettled(MessageId id);
    // A task that is to be tried, though its log entry is settled. False where it waits or runs.
    bool AddAgain(const MessageRef &message);
    bool AddParked(const MessageRef &message, std::int32_t attempts, Microseconds due);
    // Tasks that run together, all of them or none: one run, as TakeRun makes it.
    void AdoptRun(const std::vector<Entry> &entries);

    // The next tasks, at most `limit`, none where nothing is ready. They run from here on, one after
    // the other, and count as one run until the last of them has reported. A task that is to be
    // alone is, and of each key there is one at most.
    std::vector<Entry> TakeRun(Microseconds now, std::size_t limit);
    // How many tasks are ready, counted up to `limit`.
    std::size_t CountReady(Microseconds now, std::size_t limit);

    // Each false where the task does not run.
    bool Finish(MessageId id);
    bool Retry(const MessageRef &message, std::int32_t attempts, Microseconds due, bool alone);
    bool Return(MessageId id, std::int32_t losses, bool alone, Microseconds due = kAtOnce);

    bool Forget(MessageId id);
    // A task with that id that is added from here on waits aside, until it is claimed; for a time only.
    void SetAside(MessageId id) { aside_.insert(id); }
    void ForgetAside() { aside_.clear(); }
    // Starts a task out of turn, by itself, that is parked or set aside. False where it is not, or
    // has more failed attempts.
    bool Claim(MessageId id, std::int32_t attempts);
    // Keeps nothing but the running tasks (and that they were seen).
    void DropWaiting();

    bool IsRunning(MessageId id) const { return running_.contains(id); }
    // False where no passing of time could make Take give a task.
    bool MayGiveTask() const { return !due_.empty() || ready_count_ > 0 || !fresh_.Empty(); }
    std::optional<Microseconds> NextDue(Microseconds now) const;

    std::size_t Running() const { return running_.size(); }
    std::size_t Runs() const { return runs_.size(); }
    std::size_t Pending() const { return untried_count_ + parked_untried_count_; }
    std::size_t Retrying() const { return parked_.size() - parked_untried_count_; }
    std::optional<Microseconds> OldestPublishedAt() const;
    // Memory of the ids of messages that were seen.
    std::size_t SeenBytes() const { return seen_.MemoryBytes(); }

private:
    using DueKey = std::pair<Microseconds, MessageId>;
    using RunId = std::uint64_t;

    struct RunningTask {
        Entry entry;
        RunId run;
    };

    // A task that waits outside untried_: parked, or handed back.
    struct Parked {
        Entry entry;
        Microseconds due;
    };

    // The tasks of one busy key. It exists while one of them runs, is parked, or was moved here
    // from fresh_; later ones may still be in fresh_.
    struct KeyLine {
        std::size_t running = 0;  // above 1 only where several were adopted
        // Handed back first, then by id. They all go before `waiting`.
        std::set<std::pair<bool, MessageId>> parked;
        MessageQueue waiting;           // never tried; its front is alive
        std::optional<DueKey> offered;  // what the line has in due_
    };

    void AddUntried(const MessageRef &message);
    bool IsUntried(const MessageRef &message) const { return untried_.Contains(message.id); }
    void Park(const Entry &entry, Microseconds due);
    void Unpark(std::unordered_map<MessageId, Parked>::iterator parked);
    std::optional<Entry> TakeNext(Microseconds now, bool first);
    void StartRunning(const Entry &entry, RunId run);
    void StopRunning(MessageId id);
    bool ForgetUntried(MessageId id);

    void RefreshLine(std::uint32_t key);
    void PopLine(KeyLine &line, std::uint32_t key);
    bool StageOne();
    void OfferUntried(const MessageRef &message);
    void WithdrawUntried(MessageId id);
    void CompactIfWasteful();

    IdSet seen_;
    std::set<MessageId> aside_;

    // Never tried. An id is in untried_ exactly while its task waits; the queues may still hold
    // references whose id is gone from it, which are skipped (so forgetting needs no search).
    IdSet untried_;
    std::size_t untried_count_ = 0;
    MessageQueue fresh_;            // as they came; its front is alive
    std::size_t line_entries_ = 0;  // in KeyLine::waiting of all lines

    // What came up for dealing: keyless tasks out of fresh_, and the front of each line that may
    // start. ready_ids_ says which entries of ready_ are still right.
    MessageQueue ready_;  // its front is right
    IdSet ready_ids_;
    std::size_t ready_count_ = 0;

    std::unordered_map<MessageId, Parked> parked_;
    std::size_t parked_untried_count_ = 0;  // without a failed attempt
    std::set<DueKey> due_;                  // parked ones without a key, or first in a free line
    std::set<std::pair<Microseconds, MessageId>> parked_published_;

    std::unordered_map<std::uint32_t, KeyLine> lines_;
    // The front of each KeyLine::waiting.
    std::unordered_map<MessageId, std::uint32_t> line_fronts_;
    std::set<std::pair<Microseconds, std::uint32_t>> line_published_;

    std::unordered_map<MessageId, RunningTask> running_;
    std::unordered_map<RunId, std::size_t> runs_;  // tasks that have not reported
    RunId last_run_ = 0;
};

}  // namespace herald::core
