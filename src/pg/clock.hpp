// Times of the wall clock, which may be set: forward, and back again.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// True where a time is still to come that was set no more than `longest` ahead. One that is further away was set
// before the clock was set back, and nobody knows when it would have been.
inline bool IsAhead(TimestampTz time, TimestampTz now, int64 longest) { return time > now && time - now <= longest; }

// True where so much time has gone by since then, or nobody knows how much.
inline bool HasPassed(TimestampTz since, TimestampTz now, int64 interval) {
    return now < since || now - since >= interval;
}

}  // namespace herald
