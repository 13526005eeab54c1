// See recent.hpp. One table for all databases, by the hash of database and id: who comes later takes the
// place. The two words of an entry are not written at once, so that they may be of two messages.

#include "log/recent.hpp"

extern "C" {
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"
}

namespace herald {

namespace {

constexpr uint32 kPlaces = 32 * 1024;

// Both atomic, written by publishers.
struct Place {
    pg_atomic_uint64 id;
    pg_atomic_uint64 address;  // block, offset and segment
};

Place *places = nullptr;

// Ids that follow each other have places that do.
Place *PlaceOf(int64 id) { return &places[(static_cast<uint64>(id) + murmurhash32(MyDatabaseId)) % kPlaces]; }

}  // namespace

void NoteRecent(int64 id, int segment, const ItemPointerData &tid) {
    Place *place = PlaceOf(id);
    pg_atomic_write_u64(&place->address, static_cast<uint64>(ItemPointerGetBlockNumber(&tid)) << 32 |
                                             static_cast<uint64>(ItemPointerGetOffsetNumber(&tid)) << 8 |
                                             static_cast<uint64>(segment));
    pg_atomic_write_u64(&place->id, static_cast<uint64>(id));
}

bool RecentAddress(int64 id, int *segment, ItemPointerData *tid) {
    Place *place = PlaceOf(id);
    if (id == 0 || pg_atomic_read_u64(&place->id) != static_cast<uint64>(id)) return false;
    const uint64 address = pg_atomic_read_u64(&place->address);
    *segment = static_cast<int>(address & 0xff);
    ItemPointerSet(tid, static_cast<BlockNumber>(address >> 32), static_cast<OffsetNumber>(address >> 8 & 0xffff));
    return true;
}

Size RecentMemory() { return MAXALIGN(sizeof(Place) * kPlaces); }

void InitRecent() {
    bool found;
    places = static_cast<Place *>(ShmemInitStruct("pg_herald recent messages", RecentMemory(), &found));
    if (found) return;
    for (uint32 i = 0; i < kPlaces; i++) {
        pg_atomic_init_u64(&places[i].id, 0);
        pg_atomic_init_u64(&places[i].address, 0);
    }
}

}  // namespace herald
