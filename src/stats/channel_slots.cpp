// See channel_slots.hpp.

#include "stats/channel_slots.hpp"

#include "pg/shared_hash.hpp"
#include "settings.hpp"
#include "stats/slot_shares.hpp"

namespace herald {

ChannelTableShared *channel_table = nullptr;

namespace {

constexpr int64 kReclaimInterval = 10 * USECS_PER_SEC;
constexpr int64 kIdle = USECS_PER_MINUTE;  // a channel without a use for so long makes room for others of its role
constexpr int kLongestSearch = 4096;       // slots looked at for one to give away, under the lock

HTAB *numbers = nullptr;  // ChannelKey -> ChannelEntry, guarded by the channel counter lock

ChannelEntry *Search(const ChannelKey &key, HASHACTION action) {
    return static_cast<ChannelEntry *>(hash_search(numbers, &key, action, nullptr));
}

}  // namespace

bool IsDropped(ChannelSlotShared *slot) { return (pg_atomic_read_u32(&slot->generation) & 1) != 0; }

ChannelKey KeyOf(Oid database, const char *channel) {
    ChannelKey key;
    std::memset(&key, 0, sizeof(key));
    key.database = database;
    pg::CopyString(key.channel, channel, sizeof(key.channel));
    return key;
}

void ZeroSlot(ChannelSlotShared *slot) {
    for (pg_atomic_uint64 &counter : slot->counters) pg_atomic_write_u64(&counter, 0);
    for (pg_atomic_uint64 &bucket : slot->latency) pg_atomic_write_u64(&bucket, 0);
    pg_atomic_write_u64(&slot->last_published_at, 0);
    pg_atomic_write_u64(&slot->last_delivered_at, 0);
    pg_atomic_write_u64(&slot->stats_reset, 0);
}

void FreeSlot(int number) {
    ChannelSlotShared *slot = &channel_table->slots[number];
    if (!OidIsValid(slot->key.database)) return;
    Search(slot->key, HASH_REMOVE);
    pg_atomic_write_u32(&slot->generation, (pg_atomic_read_u32(&slot->generation) | 1) + 1);
    channel_table->used--;
    if (!slot->declared) channel_table->undeclared--;
    ChangeShare(slot->role, slot->declared, -1);
    slot->key.database = InvalidOid;
}

namespace {

// A slot that counted nothing yet is not worth keeping from someone: its channel may never have
// come to be (the transaction that declared it rolled back), and where it did it asks again.
bool IsUnused(ChannelSlotShared *slot) {
    for (pg_atomic_uint64 &counter : slot->counters)
        if (pg_atomic_read_u64(&counter) != 0) return false;
    return true;
}

void ReclaimSlots() {
    TimestampTz now = GetCurrentTimestamp();
    // A full table must not make everyone walk it under the lock again and again.
    if (now >= channel_table->reclaimed_at && now < channel_table->reclaimed_at + kReclaimInterval) return;
    channel_table->reclaimed_at = now;
    for (int number = 0; number < channel_table->capacity; number++) {
        ChannelSlotShared *slot = &channel_table->slots[number];
        if (IsDropped(slot) || IsUnused(slot)) FreeSlot(number);
    }
}

bool HasRoom(bool declared) {
    return channel_table->used < channel_table->capacity &&
           (declared || channel_table->undeclared < channel_table->capacity / 2);
}

TimestampTz UsedAt(ChannelSlotShared *slot) {
    const auto published = static_cast<TimestampTz>(pg_atomic_read_u64(&slot->last_published_at));
    const auto delivered = static_cast<TimestampTz>(pg_atomic_read_u64(&slot->last_delivered_at));
    return Max(Max(published, delivered), slot->taken_at);
}

// Adds the slot's counts to "(other)", and frees it.
void GiveAway(int number) {
    ChannelSlotShared *slot = &channel_table->slots[number], *other = &channel_table->slots[channel_table->capacity];
    for (int i = 0; i < kChannelCounters; i++)
        pg_atomic_fetch_add_u64(&other->counters[i], static_cast<int64>(pg_atomic_read_u64(&slot->counters[i])));
    for (int i = 0; i < core::kHistogramBuckets; i++)
        pg_atomic_fetch_add_u64(&other->latency[i], static_cast<int64>(pg_atomic_read_u64(&slot->latency[i])));
    FreeSlot(number);
}

// All slots of the role that were not used since, or else the one that was not used for longest.
bool GiveAwaySlots(Oid role, bool undeclared, TimestampTz unused_since, bool all) {
    const int count = Min(channel_table->capacity, kLongestSearch);
    int oldest = -1;
    bool given = false;
    for (int i = 0; i < count; i++) {
        const int number = (channel_table->hand + i) % channel_table->capacity;
        ChannelSlotShared *slot = &channel_table->slots[number];
        if (!OidIsValid(slot->key.database) || slot->role != role || (undeclared && slot->declared) ||
            UsedAt(slot) > unused_since)
            continue;
        if (all) GiveAway(number);
        given = true;
        if (oldest < 0 || UsedAt(slot) < UsedAt(&channel_table->slots[oldest])) oldest = number;
    }
    channel_table->hand = (channel_table->hand + count) % channel_table->capacity;
    if (given && !all) GiveAway(oldest);
    return given;
}

// The role with most slots makes room for others. For more of its own names it gets slots that it has not used for a while, looked for
// now and then: a role with names without end must not keep the lock.
bool MakeRoom(Oid role, bool declared) {
    const bool undeclared = !declared && channel_table->undeclared >= channel_table->capacity / 2;
    SlotShare *largest = LargestShare(undeclared), *own = FindShare(role);
    if (largest == nullptr) return false;
    const int most = undeclared ? largest->undeclared : largest->all;
    const int mine = own == nullptr ? 0 : undeclared ? own->undeclared : own->all;
    const TimestampTz now = GetCurrentTimestamp();
    if (most > mine + 1) return GiveAwaySlots(largest->role, undeclared, now, false);
    if (own == nullptr || (now >= own->searched_at && now < own->searched_at + kReclaimInterval)) return false;
    own->searched_at = now;
    return GiveAwaySlots(role, undeclared, now - kIdle, true);
}

int TakeSlot(const ChannelKey &key, bool declared, Oid role) {
    if (!HasRoom(declared)) ReclaimSlots();
    if (!HasRoom(declared) && !MakeRoom(role, declared)) return channel_table->capacity;
    if (!HasRoom(declared)) return channel_table->capacity;
    ChannelEntry *entry = Search(key, HASH_ENTER_NULL);
    if (entry == nullptr) return channel_table->capacity;

    int number = channel_table->next;
    while (OidIsValid(channel_table->slots[number].key.database)) number = (number + 1) % channel_table->capacity;
    channel_table->next = (number + 1) % channel_table->capacity;
    channel_table->used++;
    if (!declared) channel_table->undeclared++;

    ChannelSlotShared *slot = &channel_table->slots[number];
    ZeroSlot(slot);
    slot->key = key;
    slot->declared = declared;
    slot->role = role;
    slot->taken_at = GetCurrentTimestamp();
    std::memset(slot->users, 0, sizeof(slot->users));
    ChangeShare(role, declared, 1);
    entry->number = number;
    return number;
}

bool IsNoted(const ChannelSlotShared *slot, Oid role) {
    for (Oid user : slot->users)
        if (user == role) return true;
    return OidIsValid(slot->users[kChannelUsers - 1]);
}

void NoteUse(ChannelSlotShared *slot, Oid role) {
    if (!OidIsValid(slot->role)) {
        ChangeShare(slot->role, slot->declared, -1);
        ChangeShare(role, slot->declared, 1);
        slot->role = role;
    }
    for (int i = 0; !IsNoted(slot, role); i++)
        if (!OidIsValid(slot->users[i])) slot->users[i] = role;
}

}  // namespace

int FindSlot(const ChannelKey &key) {
    ChannelEntry *entry = Search(key, HASH_FIND);
    return entry == nullptr ? -1 : entry->number;
}

int FindUsableSlot(const ChannelKey &key, bool declared, Oid role) {
    ChannelEntry *entry = Search(key, HASH_FIND);
    if (entry == nullptr) return -1;
    ChannelSlotShared *slot = &channel_table->slots[entry->number];
    bool usable = slot->declared == declared && !IsDropped(slot) && (declared || IsNoted(slot, role));
    return usable ? entry->number : -1;
}

int FindOrTakeSlot(const ChannelKey &key, bool declared, Oid role) {
    int number;
    ChannelEntry *entry = Search(key, HASH_FIND);
    if (entry != nullptr && IsDropped(&channel_table->slots[entry->number])) {
        FreeSlot(entry->number);
        entry = nullptr;
    }
    if (entry == nullptr) {
        number = TakeSlot(key, declared, role);
    } else {
        // It was declared meanwhile, or its declaration rolled back: the counts stay.
        number = entry->number;
        ChannelSlotShared *slot = &channel_table->slots[number];
        if (slot->declared != declared) {
            channel_table->undeclared += declared ? -1 : 1;
            ChangeShare(slot->role, slot->declared, -1);
            slot->role = role;
            ChangeShare(slot->role, declared, 1);
        }
        slot->declared = declared;
    }
    if (number < channel_table->capacity && OidIsValid(role)) NoteUse(&channel_table->slots[number], role);
    return number;
}

Size ChannelSlotMemory() {
    Size capacity = static_cast<Size>(settings::max_channels);
    Size slots = offsetof(ChannelTableShared, slots) + (capacity + 1) * sizeof(ChannelSlotShared);
    return add_size(add_size(MAXALIGN(slots), SlotShareMemory()),
                    hash_estimate_size(settings::max_channels, sizeof(ChannelEntry)));
}

void InitChannelSlots() {
    bool found;
    Size capacity = static_cast<Size>(settings::max_channels);
    Size size = offsetof(ChannelTableShared, slots) + (capacity + 1) * sizeof(ChannelSlotShared);
    HASHCTL control;

    std::memset(&control, 0, sizeof(control));
    control.keysize = sizeof(ChannelKey);
    control.entrysize = sizeof(ChannelEntry);
    numbers = pg::InitSharedHash("pg_herald channel names", settings::max_channels, &control, HASH_ELEM | HASH_BLOBS);
    InitSlotShares();
    channel_table = static_cast<ChannelTableShared *>(ShmemInitStruct("pg_herald channel counters", size, &found));
    if (found) return;
    std::memset(static_cast<void *>(channel_table), 0, size);
    channel_table->capacity = settings::max_channels;
    for (int number = 0; number <= channel_table->capacity; number++) {
        ChannelSlotShared *slot = &channel_table->slots[number];
        pg_atomic_init_u32(&slot->generation, 0);
        for (pg_atomic_uint64 &counter : slot->counters) pg_atomic_init_u64(&counter, 0);
        for (pg_atomic_uint64 &bucket : slot->latency) pg_atomic_init_u64(&bucket, 0);
        pg_atomic_init_u64(&slot->last_published_at, 0);
        pg_atomic_init_u64(&slot->last_delivered_at, 0);
        pg_atomic_init_u64(&slot->stats_reset, 0);
    }
}

}  // namespace herald
