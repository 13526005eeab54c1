// See listeners.hpp.

#include "listen/listeners.hpp"

#include "registry/lwlocks.hpp"

#include <algorithm>

extern "C" {
#include "port/atomics.h"
#include "storage/proc.h"
#include "storage/shmem.h"
}

namespace herald {

namespace {

enum class PlaceState : uint32 {
    kFree = 0,    // next: hidden
    kHidden = 1,  // taken by a transaction that has not committed; next: shown, free
    kShown = 2,   // next: free
};

// Apart from the rest, so that looking for a free place reads little memory.
struct PlaceShared {
    // Atomic, a PlaceState. Out of "free" under the exclusive listener lock, by whoever takes the place;
    // from then on written by that session alone, without a lock.
    pg_atomic_uint32 state;
    // Guarded by the listener lock.
    Oid role;
};

struct ListenerTableShared {
    // Atomic. Places that are not free, and pairs that found none. Raised and lowered by the sessions;
    // never less than the states say.
    pg_atomic_uint32 used;
    pg_atomic_uint32 unrecorded;
    // Guarded by the listener lock.
    int next;  // where to look for a free place first
    PlaceShared places[kListenerPlaces];
    // Guarded by the listener lock: written under the exclusive one while the place is hidden. A free
    // place's is kept until the place is taken again, so a reader may be late.
    Listener listeners[kListenerPlaces];
};

static_assert(std::is_standard_layout_v<ListenerTableShared>);

ListenerTableShared *table = nullptr;

PlaceState StateOf(int place) { return static_cast<PlaceState>(pg_atomic_read_u32(&table->places[place].state)); }

// Under the exclusive lock.
bool HasRoom(Oid role) {
    const int used = static_cast<int>(pg_atomic_read_u32(&table->used));
    const int left = kListenerPlaces - used;
    // As long as half of the table is free, no role has more than that.
    if (used < left) return true;
    int own = 0;
    for (int place = 0; place < kListenerPlaces; place++)
        if (StateOf(place) != PlaceState::kFree && table->places[place].role == role) own++;
    return own < left;
}

// Under the exclusive lock; there is one, as `used` is never too low.
int FindFree() {
    int place = table->next;
    while (StateOf(place) != PlaceState::kFree) place = (place + 1) % kListenerPlaces;
    table->next = (place + 1) % kListenerPlaces;
    return place;
}

}  // namespace

int TakeListener(const char *channel) {
    const Oid role = MyProc->roleId;
    const TimestampTz now = GetCurrentTimestamp();
    int place = -1;

    LWLockAcquire(Lock(kListenerLock), LW_EXCLUSIVE);
    if (HasRoom(role)) {
        place = FindFree();
        Listener *listener = &table->listeners[place];
        listener->pid = MyProcPid;
        listener->database = MyDatabaseId;
        listener->role = role;
        listener->since = now;
        pg::CopyString(listener->channel, channel, sizeof(listener->channel));
        table->places[place].role = role;
        pg_atomic_fetch_add_u32(&table->used, 1);
        pg_atomic_write_u32(&table->places[place].state, static_cast<uint32>(PlaceState::kHidden));
    }
    LWLockRelease(Lock(kListenerLock));
    if (place < 0) pg_atomic_fetch_add_u32(&table->unrecorded, 1);
    return place;
}

void ShowListener(int place) {
    if (place < 0) return;
    // What others see in the list was written under the lock that they take to read it.
    pg_atomic_write_u32(&table->places[place].state, static_cast<uint32>(PlaceState::kShown));
}

void FreeListener(int place) {
    if (place < 0) {
        pg_atomic_fetch_sub_u32(&table->unrecorded, 1);
        return;
    }
    pg_atomic_write_u32(&table->places[place].state, static_cast<uint32>(PlaceState::kFree));
    // After the state: who sees the lower number must find a free place.
    pg_atomic_fetch_sub_u32(&table->used, 1);
}

namespace {

// Takes the lock, under which no more come. Room for them is made before, as memory may be short.
Listener *LockForReading(uint32 *used) {
    for (;;) {
        const uint32 room = pg_atomic_read_u32(&table->used) + 64;
        Listener *listeners = static_cast<Listener *>(palloc(sizeof(Listener) * room));
        LWLockAcquire(Lock(kListenerLock), LW_SHARED);
        *used = pg_atomic_read_u32(&table->used);
        if (*used <= room) return listeners;
        LWLockRelease(Lock(kListenerLock));
        pfree(listeners);
    }
}

}  // namespace

Listener *ReadListeners(Oid database, int *count) {
    uint32 used;
    Listener *listeners = LockForReading(&used);
    int read = 0;
    for (int place = 0; place < kListenerPlaces && static_cast<uint32>(read) < used; place++) {
        if (StateOf(place) != PlaceState::kShown) continue;
        const Listener &listener = table->listeners[place];
        if (!OidIsValid(database) || listener.database == database) listeners[read++] = listener;
    }
    LWLockRelease(Lock(kListenerLock));
    std::sort(listeners, listeners + read, [](const Listener &a, const Listener &b) {
        const int order = std::strcmp(a.channel, b.channel);
        return order != 0 ? order < 0 : a.since < b.since;
    });
    *count = read;
    return listeners;
}

int CountListeners(const Listener *listeners, int count, const char *channel) {
    const Listener *end = listeners + count;
    const Listener *from = std::lower_bound(
        listeners, end, channel, [](const Listener &a, const char *name) { return std::strcmp(a.channel, name) < 0; });
    const Listener *to = std::upper_bound(
        from, end, channel, [](const char *name, const Listener &a) { return std::strcmp(name, a.channel) < 0; });
    return static_cast<int>(to - from);
}

ListenerUsage ReadListenerUsage() {
    return {static_cast<int>(pg_atomic_read_u32(&table->used)),
            static_cast<int>(pg_atomic_read_u32(&table->unrecorded))};
}

Size ListenerMemory() { return MAXALIGN(sizeof(ListenerTableShared)); }

void InitListeners() {
    bool found;
    table =
        static_cast<ListenerTableShared *>(ShmemInitStruct("pg_herald listeners", sizeof(ListenerTableShared), &found));
    if (found) return;
    std::memset(static_cast<void *>(table), 0, sizeof(ListenerTableShared));
    pg_atomic_init_u32(&table->used, 0);
    pg_atomic_init_u32(&table->unrecorded, 0);
    for (PlaceShared &place : table->places) pg_atomic_init_u32(&place.state, 0);
}

}  // namespace herald
