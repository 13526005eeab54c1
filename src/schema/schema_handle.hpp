// Names an entry of the cache of compiled schemas, for who wants to find it again without the schema's text.
// Zeroed: none.

#pragma once

#include "pg/pg.hpp"

namespace herald {

struct SchemaHandle {
    int slot;
    uint64 serial;
};

}  // namespace herald
