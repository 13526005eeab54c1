// Which of the trail's segments a change belongs to. It follows from the time alone, so nobody has to know
// which one is current, and a clock that jumps or a changed setting does no harm.

#pragma once

#include "pg/pg.hpp"
#include "settings.hpp"

namespace herald {

inline constexpr int kAuditSegments = 8;

// How long one segment is written to. With eight of them, and a sixth of the retention each, the oldest one
// holds nothing that must be kept when the time comes to write to it again.
inline int64 AuditSegmentSpan() {
    constexpr int64 kMonth = 30 * USECS_PER_DAY;
    if (settings::audit_retention == 0) return kMonth;
    return Max(settings::audit_retention * USECS_PER_MINUTE / 6, USECS_PER_SEC);
}

inline int AuditSegmentAt(TimestampTz time) {
    const int64 span = AuditSegmentSpan();
    const int64 number = time >= 0 ? time / span : -((-time + span - 1) / span);
    return static_cast<int>(((number % kAuditSegments) + kAuditSegments) % kAuditSegments);
}

}  // namespace herald
