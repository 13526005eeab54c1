// Counts of the current transaction: a stack of (subtransaction, slot) entries, ordered by
// subtransaction, each with the number of the entry of the same slot below it. Counting, the end of a
// subtransaction and the commit all cost time in proportion to the slots that were touched, whatever
// the number of messages and savepoints.

#include "stats/pending_counts.hpp"

#include "pg/transaction_list.hpp"
#include "stats/channel_counters.hpp"

namespace herald {

namespace {

struct Pending {
    int slot;
    SubTransactionId subtransaction;
    int below;     // the entry of the same slot beneath, or -1
    bool dropped;  // the channel was dropped here
    uint64 amounts[kChannelCounters];
};

pg::TransactionList<Pending> pending;
int *topmost = nullptr;  // by slot number: its topmost entry + 1, or 0

Pending *PendingOf(int slot) {
    SubTransactionId own = GetCurrentSubTransactionId();
    if (topmost == nullptr)
        topmost = static_cast<int *>(
            MemoryContextAllocZero(TopMemoryContext, sizeof(int) * (static_cast<Size>(ChannelCounterCapacity()) + 1)));

    int below = topmost[SlotNumber(slot)] - 1;
    if (below >= 0 && pending.items[below].subtransaction == own && pending.items[below].slot == slot)
        return &pending.items[below];

    Pending *entry = pending.Add({slot, own, below, false, {}});
    topmost[SlotNumber(slot)] = pending.count;
    return entry;
}

void Clear() {
    for (const Pending &entry : pending) topmost[SlotNumber(entry.slot)] = 0;
    pending.Forget();
}

void CountAll(TimestampTz now) {
    for (const Pending &entry : pending) CountCommitted(entry.slot, entry.amounts, now);
}

void CountAndDrop() {
    if (pending.count == 0) return;
    CountAll(GetCurrentTransactionStopTimestamp());
    for (const Pending &entry : pending)
        if (entry.dropped) DropChannelCounterSlot(entry.slot);
    Clear();
}

// A prepared drop may be rolled back: its slot stays until the table needs room.
void CountPrepared() {
    if (pending.count == 0) return;
    CountAll(GetCurrentTimestamp());
    Clear();
}

void MergeIntoParent(SubTransactionId own, SubTransactionId parent) {
    int first = pending.count;
    while (first > 0 && pending.items[first - 1].subtransaction == own) first--;

    int kept = first;
    for (int i = first; i < pending.count; i++) {
        Pending *entry = &pending.items[i];
        Pending *below = entry->below < 0 ? nullptr : &pending.items[entry->below];
        if (below != nullptr && below->slot == entry->slot && below->subtransaction == parent) {
            for (int c = 0; c < kChannelCounters; c++) below->amounts[c] += entry->amounts[c];
            below->dropped = below->dropped || entry->dropped;
            topmost[SlotNumber(entry->slot)] = entry->below + 1;
        } else {
            pending.items[kept] = *entry;
            pending.items[kept].subtransaction = parent;
            topmost[SlotNumber(entry->slot)] = ++kept;
        }
    }
    pending.count = kept;
}

// Subtransaction numbers grow: what is not below came with this one.
void DropSub(SubTransactionId own) {
    pending.DropSub(own, [](const Pending &entry) { topmost[SlotNumber(entry.slot)] = entry.below + 1; });
}

}  // namespace

const pg::TransactionPart kPendingCountsPart = {.before_commit = pg::NoEnd,
                                                .before_prepare = pg::NoEnd,
                                                .committed = CountAndDrop,
                                                .prepared = CountPrepared,
                                                .aborted = Clear,
                                                .sub_committed = MergeIntoParent,
                                                .sub_aborted = DropSub};

void CountAtCommit(int slot, ChannelCounter counter, uint64 amount) {
    if (slot < 0 || amount == 0) return;
    PendingOf(slot)->amounts[static_cast<int>(counter)] += amount;
}

void RemoveChannelCountersAtCommit(Oid database, const char *channel) {
    int slot = FindChannelCounterSlot(database, channel);
    if (slot >= 0) PendingOf(slot)->dropped = true;
}

}  // namespace herald
