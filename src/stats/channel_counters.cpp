// See channel_counters.hpp. What counts at commit is collected by pending_counts.cpp.

#include "stats/channel_counters.hpp"

#include "outbox/locks.hpp"
#include "pg/shared_hash.hpp"
#include "settings.hpp"
#include "stats/pending_counts.hpp"

extern "C" {
#include "port/atomics.h"
}

namespace herald {

namespace {

struct ChannelKey {
    Oid database;
    char channel[NAMEDATALEN];  // padded with zeros, as it is compared by bytes
};

struct ChannelSlotShared {
    // Guarded by the channel counter lock. An InvalidOid database: free.
    ChannelKey key;
    bool declared;  // counts against no quota

    // Atomic. Even: the generation, twice; handles of another one are void. The commit that dropped the
    // channel, which must not take locks, makes it odd: the slot is there for the taking, and whoever
    // takes it makes it even again.
    pg_atomic_uint32 generation;
    // Atomic, written by anyone who counts.
    pg_atomic_uint64 counters[kChannelCounters];
    pg_atomic_uint64 latency[core::kHistogramBuckets];
    pg_atomic_uint64 last_published_at;
    pg_atomic_uint64 last_delivered_at;
    pg_atomic_uint64 stats_reset;
};

struct ChannelTableShared {
    int capacity;  // immutable; the slot of that number is "(other)"
    // Guarded by the channel counter lock.
    int used;
    int undeclared;        // of these; at most half of the capacity
    int next;              // where to look for a free slot first
    TimestampTz reclaimed_at;  // when slots without a use were last looked for
    ChannelSlotShared slots[FLEXIBLE_ARRAY_MEMBER];
};

struct ChannelEntry {
    ChannelKey key;
    int number;
};

static_assert(std::is_standard_layout_v<ChannelSlotShared>);
static_assert(std::is_standard_layout_v<ChannelTableShared>);

// A handle is generation and slot number in one positive int.
constexpr int kNumberBits = 21;
constexpr int kNumberMask = (1 << kNumberBits) - 1;
constexpr uint32 kGenerationMask = (1u << (31 - kNumberBits)) - 1;
constexpr int64 kReclaimInterval = 10 * USECS_PER_SEC;

ChannelTableShared *table = nullptr;
HTAB *numbers = nullptr;  // ChannelKey -> ChannelEntry, guarded by the channel counter lock

bool IsDropped(ChannelSlotShared *slot) {
    return (pg_atomic_read_u32(&slot->generation) & 1) != 0;
}

int HandleOf(int number) {
    uint32 generation = pg_atomic_read_u32(&table->slots[number].generation) / 2 & kGenerationMask;
    return static_cast<int>(generation << kNumberBits) | number;
}

bool IsValid(int handle) {
    int number = handle & kNumberMask;
    return !IsDropped(&table->slots[number]) && HandleOf(number) == handle;
}

ChannelSlotShared *SlotOf(int handle) {
    return &table->slots[IsValid(handle) ? handle & kNumberMask : table->capacity];
}

ChannelKey KeyOf(Oid database, const char *channel) {
    ChannelKey key;
    std::memset(&key, 0, sizeof(key));
    key.database = database;
    pg::CopyString(key.channel, channel, sizeof(key.channel));
    return key;
}

ChannelEntry *Search(const ChannelKey &key, HASHACTION action) {
    return static_cast<ChannelEntry *>(hash_search(numbers, &key, action, nullptr));
}

void ZeroSlot(ChannelSlotShared *slot) {
    for (pg_atomic_uint64 &counter : slot->counters) pg_atomic_write_u64(&counter, 0);
    for (pg_atomic_uint64 &bucket : slot->latency) pg_atomic_write_u64(&bucket, 0);
    pg_atomic_write_u64(&slot->last_published_at, 0);
    pg_atomic_write_u64(&slot->last_delivered_at, 0);
    pg_atomic_write_u64(&slot->stats_reset, 0);
}

// Under the exclusive lock, as all that follow.
void FreeSlot(int number) {
    ChannelSlotShared *slot = &table->slots[number];
    if (!OidIsValid(slot->key.database)) return;
    Search(slot->key, HASH_REMOVE);
    pg_atomic_write_u32(&slot->generation, (pg_atomic_read_u32(&slot->generation) | 1) + 1);
    table->used--;
    if (!slot->declared) table->undeclared--;
    slot->key.database = InvalidOid;
}

// A slot that counted nothing yet is not worth keeping from someone: its channel may never have
// come to be (the transaction that declared it rolled back), and where it did it asks again.
bool IsUnused(ChannelSlotShared *slot) {
    for (pg_atomic_uint64 &counter : slot->counters)
        if (pg_atomic_read_u64(&counter) != 0) return false;
    return true;
}

void ReclaimSlots() {
    TimestampTz now = GetCurrentTimestamp();
    // Who fills the table must not make everyone else walk it under the lock again and again.
    if (now >= table->reclaimed_at && now < table->reclaimed_at + kReclaimInterval) return;
    table->reclaimed_at = now;
    for (int number = 0; number < table->capacity; number++) {
        ChannelSlotShared *slot = &table->slots[number];
        if (IsDropped(slot) || IsUnused(slot)) FreeSlot(number);
    }
}

bool HasRoom(bool declared) {
    return table->used < table->capacity && (declared || table->undeclared < table->capacity / 2);
}

int TakeSlot(const ChannelKey &key, bool declared) {
    if (!HasRoom(declared)) ReclaimSlots();
    if (!HasRoom(declared)) return table->capacity;
    ChannelEntry *entry = Search(key, HASH_ENTER_NULL);
    if (entry == nullptr) return table->capacity;

    int number = table->next;
    while (OidIsValid(table->slots[number].key.database)) number = (number + 1) % table->capacity;
    table->next = (number + 1) % table->capacity;
    table->used++;
    if (!declared) table->undeclared++;

    ChannelSlotShared *slot = &table->slots[number];
    ZeroSlot(slot);
    slot->key = key;
    slot->declared = declared;
    entry->number = number;
    return number;
}

// The number of a channel's slot that can be used as it is, or -1.
int FindUsable(const ChannelKey &key, bool declared) {
    ChannelEntry *entry = Search(key, HASH_FIND);
    if (entry == nullptr) return -1;
    ChannelSlotShared *slot = &table->slots[entry->number];
    bool usable = slot->declared == declared && !IsDropped(slot);
    return usable ? entry->number : -1;
}

}  // namespace

int ChannelCounterSlot(Oid database, const char *channel, bool declared) {
    ChannelKey key = KeyOf(database, channel);

    LWLockAcquire(Lock(kChannelCounterLock), LW_SHARED);
    int number = FindUsable(key, declared);
    if (number >= 0) number = HandleOf(number);
    LWLockRelease(Lock(kChannelCounterLock));
    if (number >= 0) return number;

    LWLockAcquire(Lock(kChannelCounterLock), LW_EXCLUSIVE);
    ChannelEntry *entry = Search(key, HASH_FIND);
    if (entry != nullptr && IsDropped(&table->slots[entry->number])) {
        FreeSlot(entry->number);
        entry = nullptr;
    }
    if (entry == nullptr) {
        number = TakeSlot(key, declared);
    } else {
        // It was declared meanwhile, or its declaration rolled back: the counts stay.
        number = entry->number;
        ChannelSlotShared *slot = &table->slots[number];
        if (slot->declared != declared) table->undeclared += declared ? -1 : 1;
        slot->declared = declared;
    }
    number = HandleOf(number);
    LWLockRelease(Lock(kChannelCounterLock));
    return number;
}

bool ChannelCounterSlotValid(int slot) { return slot >= 0 && IsValid(slot); }

void CountNow(int slot, ChannelCounter counter, uint64 amount) {
    if (slot < 0) return;
    pg_atomic_fetch_add_u64(&SlotOf(slot)->counters[static_cast<int>(counter)],
                            static_cast<int64>(amount));
}

void CountCommitted(int slot, const uint64 *amounts, TimestampTz now) {
    ChannelSlotShared *shared = SlotOf(slot);
    for (int i = 0; i < kChannelCounters; i++)
        if (amounts[i] != 0)
            pg_atomic_fetch_add_u64(&shared->counters[i], static_cast<int64>(amounts[i]));
    if (amounts[static_cast<int>(ChannelCounter::kPublished)] != 0)
        pg_atomic_write_u64(&shared->last_published_at, static_cast<uint64>(now));
}

int SlotNumber(int slot) { return slot & kNumberMask; }

void CountLatency(int slot, int64 microseconds) {
    if (slot < 0) return;
    ChannelSlotShared *shared = SlotOf(slot);
    pg_atomic_fetch_add_u64(&shared->latency[core::BucketOf(microseconds)], 1);
    pg_atomic_write_u64(&shared->last_delivered_at, static_cast<uint64>(GetCurrentTimestamp()));
}

int FindChannelCounterSlot(Oid database, const char *channel) {
    ChannelKey key = KeyOf(database, channel);
    LWLockAcquire(Lock(kChannelCounterLock), LW_SHARED);
    ChannelEntry *entry = Search(key, HASH_FIND);
    int slot = entry == nullptr ? -1 : HandleOf(entry->number);
    LWLockRelease(Lock(kChannelCounterLock));
    return slot;
}

void DropChannelCounterSlot(int slot) {
    ChannelSlotShared *shared = SlotOf(slot);
    uint32 generation = pg_atomic_read_u32(&shared->generation);
    // Where it changed meanwhile, someone else gave the slot away.
    if (shared != &table->slots[table->capacity] && generation % 2 == 0)
        pg_atomic_compare_exchange_u32(&shared->generation, &generation, generation + 1);
}

void RemoveDatabaseChannelCounters(Oid database) {
    LWLockAcquire(Lock(kChannelCounterLock), LW_EXCLUSIVE);
    for (int number = 0; number < table->capacity; number++)
        if (table->slots[number].key.database == database) FreeSlot(number);
    LWLockRelease(Lock(kChannelCounterLock));
}

int ChannelCounterCapacity() { return table->capacity; }

bool ReadChannelCounters(int number, ChannelCounterSnapshot *snapshot) {
    ChannelSlotShared *slot = &table->slots[number];
    bool other = number == table->capacity;

    LWLockAcquire(Lock(kChannelCounterLock), LW_SHARED);
    snapshot->database = slot->key.database;
    bool exists = other || (OidIsValid(snapshot->database) && !IsDropped(slot));
    if (exists) {
        snapshot->declared = slot->declared;
        pg::CopyString(snapshot->channel, other ? kOtherChannels : slot->key.channel,
                sizeof(snapshot->channel));
        for (int i = 0; i < kChannelCounters; i++)
            snapshot->counters[i] = pg_atomic_read_u64(&slot->counters[i]);
        for (int i = 0; i < core::kHistogramBuckets; i++)
            snapshot->latency[i] = pg_atomic_read_u64(&slot->latency[i]);
        snapshot->last_published_at =
            static_cast<TimestampTz>(pg_atomic_read_u64(&slot->last_published_at));
        snapshot->last_delivered_at =
            static_cast<TimestampTz>(pg_atomic_read_u64(&slot->last_delivered_at));
        snapshot->stats_reset = static_cast<TimestampTz>(pg_atomic_read_u64(&slot->stats_reset));
    }
    LWLockRelease(Lock(kChannelCounterLock));
    return exists;
}

void AddChannelCounters(const ChannelCounterSnapshot &snapshot) {
    const bool other = !OidIsValid(snapshot.database);
    ChannelSlotShared *slot =
        other ? &table->slots[table->capacity]
              : SlotOf(ChannelCounterSlot(snapshot.database, snapshot.channel, snapshot.declared));

    for (int i = 0; i < kChannelCounters; i++)
        pg_atomic_fetch_add_u64(&slot->counters[i], static_cast<int64>(snapshot.counters[i]));
    for (int i = 0; i < core::kHistogramBuckets; i++)
        pg_atomic_fetch_add_u64(&slot->latency[i], static_cast<int64>(snapshot.latency[i]));
    // "(other)" may get them of several channels.
    if (!other && slot == &table->slots[table->capacity]) return;
    pg_atomic_write_u64(&slot->last_published_at, static_cast<uint64>(snapshot.last_published_at));
    pg_atomic_write_u64(&slot->last_delivered_at, static_cast<uint64>(snapshot.last_delivered_at));
    pg_atomic_write_u64(&slot->stats_reset, static_cast<uint64>(snapshot.stats_reset));
}

bool ResetChannelCounters(Oid database, const char *channel) {
    uint64 now = static_cast<uint64>(GetCurrentTimestamp());
    bool found = false;

    LWLockAcquire(Lock(kChannelCounterLock), LW_SHARED);
    for (int number = 0; number <= table->capacity; number++) {
        ChannelSlotShared *slot = &table->slots[number];
        bool chosen = number == table->capacity ? channel == nullptr
                                                : slot->key.database == database &&
                                                      (channel == nullptr ||
                                                       std::strcmp(slot->key.channel, channel) == 0);
        if (!chosen) continue;
        ZeroSlot(slot);
        pg_atomic_write_u64(&slot->stats_reset, now);
        found = true;
    }
    LWLockRelease(Lock(kChannelCounterLock));
    return found;
}

Size ChannelCounterMemory() {
    Size capacity = static_cast<Size>(settings::max_channels);
    Size slots = offsetof(ChannelTableShared, slots) + (capacity + 1) * sizeof(ChannelSlotShared);
    return add_size(MAXALIGN(slots), hash_estimate_size(settings::max_channels, sizeof(ChannelEntry)));
}

void InitChannelCounters() {
    bool found;
    Size capacity = static_cast<Size>(settings::max_channels);
    Size size = offsetof(ChannelTableShared, slots) + (capacity + 1) * sizeof(ChannelSlotShared);
    HASHCTL control;

    std::memset(&control, 0, sizeof(control));
    control.keysize = sizeof(ChannelKey);
    control.entrysize = sizeof(ChannelEntry);
    numbers = pg::InitSharedHash("pg_herald channel names", settings::max_channels, &control,
                                 HASH_ELEM | HASH_BLOBS);
    table = static_cast<ChannelTableShared *>(
        ShmemInitStruct("pg_herald channel counters", size, &found));
    if (found) return;
    std::memset(static_cast<void *>(table), 0, size);
    table->capacity = settings::max_channels;
    for (int number = 0; number <= table->capacity; number++) {
        ChannelSlotShared *slot = &table->slots[number];
        pg_atomic_init_u32(&slot->generation, 0);
        for (pg_atomic_uint64 &counter : slot->counters) pg_atomic_init_u64(&counter, 0);
        for (pg_atomic_uint64 &bucket : slot->latency) pg_atomic_init_u64(&bucket, 0);
        pg_atomic_init_u64(&slot->last_published_at, 0);
        pg_atomic_init_u64(&slot->last_delivered_at, 0);
        pg_atomic_init_u64(&slot->stats_reset, 0);
    }
}

void InitChannelCounterCallbacks() { InitPendingCounts(); }

}  // namespace herald
