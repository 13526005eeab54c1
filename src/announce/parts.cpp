// See parts.hpp.

#include "announce/parts.hpp"

namespace herald {

namespace {

constexpr TimestampTz kFirstDelay = USECS_PER_SEC / 5;
constexpr TimestampTz kLongestDelay = USECS_PER_MINUTE;

// Shows in herald.status() what has failed first of all that fails.
void ShowFailing(DatabaseShared *database, const Part *part, int sqlstate) {
    if (part->failing_since == 0) {
        if (pg_atomic_read_u32(&database->announcer.failing_step) == static_cast<uint32>(part->step))
            pg_atomic_write_u64(&database->announcer.failing_since, 0);
        return;
    }
    const uint64 shown = pg_atomic_read_u64(&database->announcer.failing_since);
    if (shown != 0 && pg_atomic_read_u32(&database->announcer.failing_step) != static_cast<uint32>(part->step)) return;
    pg_atomic_write_u32(&database->announcer.failing_step, static_cast<uint32>(part->step));
    pg_atomic_write_u32(&database->announcer.failing_code, static_cast<uint32>(sqlstate));
    pg_atomic_write_u64(&database->announcer.failing_since, static_cast<uint64>(part->failing_since));
}

}  // namespace

void NoteDone(DatabaseShared *database, Part *part) {
    part->next = 0;
    part->failures = 0;
    if (part->failing_since == 0) return;
    part->failing_since = 0;
    ShowFailing(database, part, 0);
}

bool NoteFailed(DatabaseShared *database, Part *part, int sqlstate) {
    const TimestampTz now = GetCurrentTimestamp();
    part->next = now + Min(kFirstDelay << Min(part->failures, 10), kLongestDelay);
    part->failures++;
    if (part->failing_since == 0) part->failing_since = now;
    ShowFailing(database, part, sqlstate);
    if (part->logged != 0 && now - part->logged < USECS_PER_MINUTE) return false;
    part->logged = now;
    return true;
}

bool MayPass(int sqlstate) {
    const int category = ERRCODE_TO_CATEGORY(sqlstate);
    return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || category == ERRCODE_INSUFFICIENT_RESOURCES ||
           category == ERRCODE_SYSTEM_ERROR || category == ERRCODE_TRANSACTION_ROLLBACK ||
           sqlstate == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

}  // namespace herald
