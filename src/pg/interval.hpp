// Intervals as plain microseconds: what a timer can use.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "common/int.h"
#include "datatype/timestamp.h"
}

namespace herald::pg {

// A month counts as 30 days, as where PostgreSQL compares intervals. Out of range: the nearest limit.
inline int64 IntervalMicroseconds(const Interval *interval) {
    const int64 days = static_cast<int64>(interval->month) * DAYS_PER_MONTH + interval->day;
    int64 date;
    int64 total;
    if (pg_mul_s64_overflow(days, USECS_PER_DAY, &date)) return days > 0 ? PG_INT64_MAX : PG_INT64_MIN;
    if (pg_add_s64_overflow(date, interval->time, &total)) return date > 0 ? PG_INT64_MAX : PG_INT64_MIN;
    return total;
}

// False for the infinite intervals that PostgreSQL 17 brought.
inline bool IntervalIsFinite(const Interval *interval) {
    return DatumGetBool(DirectFunctionCall1(interval_finite, PointerGetDatum(interval)));
}

}  // namespace herald::pg
