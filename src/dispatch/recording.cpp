// See recording.hpp.

#include "dispatch/recording.hpp"

#include <algorithm>

namespace herald {

namespace {

constexpr TimestampTz kLongestRest = USECS_PER_MINUTE;

}  // namespace

Recording::Recording(DatabaseShared *database) : database_(database) {
    if (pg_atomic_read_u64(&database->dispatcher.unrecorded_since) != 0) failures_ = 1;
}

void Recording::Note(int sqlstate, TimestampTz now) {
    if (sqlstate == 0) {
        if (failures_ == 0) return;
        failures_ = 0;
        until_ = 0;
        pg_atomic_write_u64(&database_->dispatcher.unrecorded_since, 0);
        return;
    }
    pg_atomic_write_u32(&database_->dispatcher.unrecorded_code, static_cast<uint32>(sqlstate));
    if (pg_atomic_read_u64(&database_->dispatcher.unrecorded_since) == 0)
        pg_atomic_write_u64(&database_->dispatcher.unrecorded_since, static_cast<uint64>(now));
    // Of several that were under way at the same time, one counts.
    if (until_ > now) return;
    until_ = now + std::min(USECS_PER_SEC << std::min(failures_, 6), kLongestRest);
    failures_++;
}

}  // namespace herald
