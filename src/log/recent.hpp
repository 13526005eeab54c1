// Where the youngest messages lie, for who was just told of them: a table in shared memory that publishers
// write to without a lock. What is read from it is a hint: the id found at the address confirms it.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "storage/itemptr.h"
}

namespace herald {

// By whoever writes a message, before its commit.
void NoteRecent(int64 id, int segment, const ItemPointerData &tid);

// False: not known any more.
bool RecentAddress(int64 id, int *segment, ItemPointerData *tid);

Size RecentMemory();
void InitRecent();

}  // namespace herald
