// How every cache here knows what is stale. An epoch ends with each change of what the cache is made from; what was
// begun in an earlier one is stale. Take the stamp before reading: a change that is heard of meanwhile makes the result
// stale at once.
//
//     const pg::Stamp begun = epoch.Now();
//     ... read ...
//     cached->stamp = begun;          // later: if (!epoch.Is(cached->stamp)) read again

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

// Zero: of no epoch.
struct Stamp {
    uint64 number;
};

struct Epoch {
    uint64 number = 1;

    void End() { number++; }
    Stamp Now() const { return {number}; }
    bool Is(Stamp stamp) const { return stamp.number == number; }
};

}  // namespace herald::pg
