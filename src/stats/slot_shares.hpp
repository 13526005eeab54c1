// How many slots of the channel counters each role has: the owners of declared channels, and those who named undeclared
// ones first. Where there is no room, who has most makes room: so one role's names, however many, take nothing from
// others that have fewer.
//
// All of it is guarded by the channel counter lock, held exclusively.

#pragma once

#include "pg/pg.hpp"

namespace herald {

struct SlotShare {
    Oid role;
    int all;
    int undeclared;           // of these
    TimestampTz searched_at;  // when it last looked for slots that it does not use any more
};

// NULL: it has none.
SlotShare *FindShare(Oid role);
void ChangeShare(Oid role, bool declared, int by);
// Of all roles, counting undeclared channels only or all; NULL: there is none.
SlotShare *LargestShare(bool undeclared);

Size SlotShareMemory();
void InitSlotShares();  // in the shmem_startup_hook, under AddinShmemInitLock

}  // namespace herald
