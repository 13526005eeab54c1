// The hash by which the scheduler knows a message's key.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace herald {

// Never 0, which means "no key". Two keys with one hash only wait for each other. `key` is detoasted.
inline uint32 HashOfKey(const text *key) {
    uint32 hash = DatumGetUInt32(
        hash_any(reinterpret_cast<const unsigned char *>(VARDATA_ANY(key)), static_cast<int>(VARSIZE_ANY_EXHDR(key))));
    return hash == 0 ? 1 : hash;
}

}  // namespace herald
