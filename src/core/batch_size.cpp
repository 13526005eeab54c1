// Where trouble comes back each time the limit grows (every task takes the same lock, say), the next
// attempt to grow has to wait twice as long.

#include "core/batch_size.hpp"

#include <algorithm>

namespace herald::core {

void BatchSize::NoteCalm(std::size_t tasks, Microseconds duration, Microseconds batch_time) {
    if (tasks == 0) return;
    const double each = static_cast<double>(duration) / static_cast<double>(tasks);
    average_ = average_ < 0 ? each : average_ + (each - average_) / kMemory;

    if (++calm_ >= patience_) {
        calm_ = 0;
        // A batch that was not full says nothing about larger ones.
        if (tasks >= limit_) {
            limit_ = std::min<std::size_t>(2 * limit_, kMaxBatch);
            // The last growth did no harm.
            if (grew_) patience_ = std::max(patience_ / 2, 1);
            grew_ = true;
        }
    }
    const double half = static_cast<double>(batch_time) / 2;
    while (limit_ > 1 && static_cast<double>(limit_) * average_ > half) limit_ /= 2;
}

void BatchSize::NoteTrouble() {
    limit_ = std::max<std::size_t>(limit_ / 2, 1);
    patience_ = std::min(2 * patience_, kLongestPatience);
    calm_ = 0;
    grew_ = false;
}

}  // namespace herald::core
