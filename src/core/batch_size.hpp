// How many tasks of one subscription to put into one transaction. A batch saves commits; what it
// costs is that its first task waits for its last one to be visible, and that its tasks hold each
// other's locks. So a batch is to take well under the time that batches may take, judged by the
// time that the tasks before took; and where tasks got into each other's way, there are fewer.

#pragma once

#include <cstddef>

#include "core/task.hpp"

namespace herald::core {

class BatchSize {
public:
    // Tasks of the next batch, at most: 1 to kMaxBatch.
    std::size_t Limit() const { return limit_; }

    // A batch has run as it should: `tasks` of it in `duration`. `batch_time`: what a batch may take.
    void NoteCalm(std::size_t tasks, Microseconds duration, Microseconds batch_time);

    // A batch had to be cut short.
    void NoteTrouble();

private:
    // The average follows the last so many batches.
    static constexpr double kMemory = 4;
    static constexpr int kLongestPatience = 256;

    // The first task of a subscription that nothing is known of may take an hour.
    std::size_t limit_ = 1;
    double average_ = -1;  // microseconds of one task; negative: not known
    int patience_ = 1;     // calm batches it takes to double the limit
    int calm_ = 0;         // of them so far
    bool grew_ = false;    // since the last trouble
};

}  // namespace herald::core
