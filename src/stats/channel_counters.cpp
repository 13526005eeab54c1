// See channel_counters.hpp. What counts at commit is collected by pending_counts.cpp.

#include "stats/channel_counters.hpp"

#include "registry/lwlocks.hpp"
#include "stats/channel_slots.hpp"
#include "stats/pending_counts.hpp"

namespace herald {

namespace {

// A handle is generation and slot number in one positive int.
constexpr int kNumberBits = 21;
constexpr int kNumberMask = (1 << kNumberBits) - 1;
constexpr uint32 kGenerationMask = (1u << (31 - kNumberBits)) - 1;
constexpr int64 kRecentUse = USECS_PER_DAY;

int HandleOf(int number) {
    uint32 generation = pg_atomic_read_u32(&channel_table->slots[number].generation) / 2 & kGenerationMask;
    return static_cast<int>(generation << kNumberBits) | number;
}

bool IsValid(int handle) {
    int number = handle & kNumberMask;
    return !IsDropped(&channel_table->slots[number]) && HandleOf(number) == handle;
}

ChannelSlotShared *SlotOf(int handle) {
    return &channel_table->slots[IsValid(handle) ? handle & kNumberMask : channel_table->capacity];
}

}  // namespace

int ChannelCounterSlot(Oid database, const char *channel, bool declared, Oid role) {
    ChannelKey key = KeyOf(database, channel);

    LWLockAcquire(Lock(kChannelCounterLock), LW_SHARED);
    int number = FindUsableSlot(key, declared, role);
    if (number >= 0) number = HandleOf(number);
    LWLockRelease(Lock(kChannelCounterLock));
    if (number >= 0) return number;

    LWLockAcquire(Lock(kChannelCounterLock), LW_EXCLUSIVE);
    number = FindOrTakeSlot(key, declared, role);
    number = HandleOf(number);
    LWLockRelease(Lock(kChannelCounterLock));
    return number;
}

bool ChannelCounterSlotValid(int slot) { return slot >= 0 && IsValid(slot); }

void CountNow(int slot, ChannelCounter counter, uint64 amount) {
    if (slot < 0) return;
    pg_atomic_fetch_add_u64(&SlotOf(slot)->counters[static_cast<int>(counter)], static_cast<int64>(amount));
}

void CountCommitted(int slot, const uint64 *amounts, TimestampTz now) {
    ChannelSlotShared *shared = SlotOf(slot);
    for (int i = 0; i < kChannelCounters; i++)
        if (amounts[i] != 0) pg_atomic_fetch_add_u64(&shared->counters[i], static_cast<int64>(amounts[i]));
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
    const int number = FindSlot(key);
    const int slot = number < 0 ? -1 : HandleOf(number);
    LWLockRelease(Lock(kChannelCounterLock));
    return slot;
}

void DropChannelCounterSlot(int slot) {
    ChannelSlotShared *shared = SlotOf(slot);
    uint32 generation = pg_atomic_read_u32(&shared->generation);
    // If the generation has changed meanwhile, someone else gave the slot away.
    if (shared != &channel_table->slots[channel_table->capacity] && generation % 2 == 0)
        pg_atomic_compare_exchange_u32(&shared->generation, &generation, generation + 1);
}

void RemoveDatabaseChannelCounters(Oid database) {
    LWLockAcquire(Lock(kChannelCounterLock), LW_EXCLUSIVE);
    for (int number = 0; number < channel_table->capacity; number++)
        if (channel_table->slots[number].key.database == database) FreeSlot(number);
    LWLockRelease(Lock(kChannelCounterLock));
}

int ChannelCounterCapacity() { return channel_table->capacity; }

ChannelCounterUsage ReadChannelCounterUsage() {
    LWLockAcquire(Lock(kChannelCounterLock), LW_SHARED);
    const ChannelCounterUsage usage = {channel_table->used, channel_table->undeclared};
    LWLockRelease(Lock(kChannelCounterLock));
    return usage;
}

bool ReadChannelUsers(Oid database, const char *channel, Oid *users) {
    const ChannelKey key = KeyOf(database, channel);
    LWLockAcquire(Lock(kChannelCounterLock), LW_SHARED);
    const int number = FindSlot(key);
    ChannelSlotShared *slot = number < 0 ? nullptr : &channel_table->slots[number];
    const bool in_use =
        slot != nullptr && !IsDropped(slot) &&
        static_cast<TimestampTz>(pg_atomic_read_u64(&slot->last_published_at)) > GetCurrentTimestamp() - kRecentUse;
    if (in_use) std::memcpy(users, slot->users, sizeof(slot->users));
    LWLockRelease(Lock(kChannelCounterLock));
    return in_use;
}

bool ReadChannelCounters(int number, ChannelCounterSnapshot *snapshot) {
    ChannelSlotShared *slot = &channel_table->slots[number];
    bool other = number == channel_table->capacity;

    LWLockAcquire(Lock(kChannelCounterLock), LW_SHARED);
    snapshot->database = slot->key.database;
    bool exists = other || (OidIsValid(snapshot->database) && !IsDropped(slot));
    if (exists) {
        snapshot->declared = slot->declared;
        snapshot->role = slot->role;
        std::memcpy(snapshot->users, slot->users, sizeof(snapshot->users));
        pg::CopyString(snapshot->channel, other ? kOtherChannels : slot->key.channel, sizeof(snapshot->channel));
        for (int i = 0; i < kChannelCounters; i++) snapshot->counters[i] = pg_atomic_read_u64(&slot->counters[i]);
        for (int i = 0; i < core::kHistogramBuckets; i++) snapshot->latency[i] = pg_atomic_read_u64(&slot->latency[i]);
        snapshot->last_published_at = static_cast<TimestampTz>(pg_atomic_read_u64(&slot->last_published_at));
        snapshot->last_delivered_at = static_cast<TimestampTz>(pg_atomic_read_u64(&slot->last_delivered_at));
        snapshot->stats_reset = static_cast<TimestampTz>(pg_atomic_read_u64(&slot->stats_reset));
    }
    LWLockRelease(Lock(kChannelCounterLock));
    return exists;
}

void AddChannelCounters(const ChannelCounterSnapshot &snapshot) {
    const bool other = !OidIsValid(snapshot.database);
    ChannelSlotShared *slot =
        other ? &channel_table->slots[channel_table->capacity]
              : SlotOf(ChannelCounterSlot(snapshot.database, snapshot.channel, snapshot.declared, snapshot.role));

    for (int i = 0; i < kChannelCounters; i++)
        pg_atomic_fetch_add_u64(&slot->counters[i], static_cast<int64>(snapshot.counters[i]));
    for (int i = 0; i < core::kHistogramBuckets; i++)
        pg_atomic_fetch_add_u64(&slot->latency[i], static_cast<int64>(snapshot.latency[i]));
    // "(other)" may get them of several channels.
    if (!other && slot == &channel_table->slots[channel_table->capacity]) return;
    std::memcpy(slot->users, snapshot.users, sizeof(slot->users));
    pg_atomic_write_u64(&slot->last_published_at, static_cast<uint64>(snapshot.last_published_at));
    pg_atomic_write_u64(&slot->last_delivered_at, static_cast<uint64>(snapshot.last_delivered_at));
    pg_atomic_write_u64(&slot->stats_reset, static_cast<uint64>(snapshot.stats_reset));
}

bool ResetChannelCounters(Oid database, const char *channel) {
    uint64 now = static_cast<uint64>(GetCurrentTimestamp());
    bool found = false;

    LWLockAcquire(Lock(kChannelCounterLock), LW_EXCLUSIVE);
    for (int number = 0; number <= channel_table->capacity; number++) {
        ChannelSlotShared *slot = &channel_table->slots[number];
        bool chosen = number == channel_table->capacity
                          ? channel == nullptr
                          : slot->key.database == database &&
                                (channel == nullptr || std::strcmp(slot->key.channel, channel) == 0);
        if (!chosen) continue;
        found = true;
        ZeroSlot(slot);
        // A name that nobody declared comes again when somebody uses it.
        if (channel == nullptr && number < channel_table->capacity && !slot->declared) {
            FreeSlot(number);
            continue;
        }
        pg_atomic_write_u64(&slot->stats_reset, now);
    }
    LWLockRelease(Lock(kChannelCounterLock));
    return found;
}

Size ChannelCounterMemory() { return ChannelSlotMemory(); }

void InitChannelCounters() { InitChannelSlots(); }

}  // namespace herald
