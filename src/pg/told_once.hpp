// A warning that a session gives once for each relation, as far as it remembers them.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

struct ToldOnce {
    Oid told[32];
    uint32 count;

    bool IsFirst(Oid relation) {
        for (Oid known : told)
            if (known == relation) return false;
        told[count++ % lengthof(told)] = relation;
        return true;
    }
};

}  // namespace herald::pg
