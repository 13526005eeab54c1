// A hash table in shared memory of a fixed size. ShmemInitHash lost an argument during the life of
// PostgreSQL 19: which one this server has is told by its type, not by a version number.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "storage/shmem.h"
#include "utils/hsearch.h"
}

namespace herald::pg {

template <typename Count>
HTAB *CallInitHash(HTAB *(*init)(const char *, Count, Count, HASHCTL *, int), const char *name, int elements,
                   HASHCTL *control, int flags) {
    return init(name, elements, elements, control, flags);
}

template <typename Count>
HTAB *CallInitHash(HTAB *(*init)(const char *, Count, HASHCTL *, int), const char *name, int elements, HASHCTL *control,
                   int flags) {
    return init(name, elements, control, flags);
}

// Makes the table or attaches to it; in the shmem_startup_hook, under AddinShmemInitLock.
inline HTAB *InitSharedHash(const char *name, int elements, HASHCTL *control, int flags) {
    return CallInitHash(&ShmemInitHash, name, elements, control, flags);
}

}  // namespace herald::pg
