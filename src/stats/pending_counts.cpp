// Counts of the current transaction: a stack of (subtransaction, slot) entries, ordered by
// subtransaction, each with the number of the entry of the same slot below it. Counting, the end of a
// subtransaction and the commit all cost time in proportion to the slots that were touched, whatever
// the number of messages and savepoints.

#include "stats/pending_counts.hpp"

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

constexpr int kKeptCapacity = 256;

Pending *pending = nullptr;
int pending_count = 0;
int pending_capacity = 0;
int *topmost = nullptr;  // by slot number: its topmost entry + 1, or 0

Pending *PendingOf(int slot) {
    SubTransactionId own = GetCurrentSubTransactionId();
    if (topmost == nullptr)
        topmost = static_cast<int *>(MemoryContextAllocZero(
            TopMemoryContext, sizeof(int) * (static_cast<Size>(ChannelCounterCapacity()) + 1)));

    int below = topmost[SlotNumber(slot)] - 1;
    if (below >= 0 && pending[below].subtransaction == own && pending[below].slot == slot)
        return &pending[below];

    if (pending_count == pending_capacity) {
        int capacity = pending_capacity == 0 ? 16 : pending_capacity * 2;
        Size size = sizeof(Pending) * static_cast<Size>(capacity);
        pending = static_cast<Pending *>(pending == nullptr
                                             ? MemoryContextAlloc(TopMemoryContext, size)
                                             : repalloc_huge(pending, size));
        pending_capacity = capacity;
    }
    Pending *entry = &pending[pending_count];
    *entry = Pending{};
    entry->slot = slot;
    entry->subtransaction = own;
    entry->below = below;
    topmost[SlotNumber(slot)] = ++pending_count;
    return entry;
}

void Clear() {
    for (int i = 0; i < pending_count; i++) topmost[SlotNumber(pending[i].slot)] = 0;
    pending_count = 0;
    if (pending_capacity > kKeptCapacity) {
        pfree(pending);
        pending = nullptr;
        pending_capacity = 0;
    }
}

void OnTransactionEnd(XactEvent event, void *) {
    if (pending_count == 0) return;
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE) {
        TimestampTz now = event == XACT_EVENT_COMMIT ? GetCurrentTransactionStopTimestamp()
                                                     : GetCurrentTimestamp();
        for (int i = 0; i < pending_count; i++) CountCommitted(pending[i].slot, pending[i].amounts, now);
        // A prepared drop may be rolled back: its slot stays until the table needs room.
        for (int i = 0; event == XACT_EVENT_COMMIT && i < pending_count; i++)
            if (pending[i].dropped) DropChannelCounterSlot(pending[i].slot);
        Clear();
    } else if (event == XACT_EVENT_ABORT) {
        Clear();
    }
}

void MergeIntoParent(SubTransactionId own, SubTransactionId parent) {
    int first = pending_count;
    while (first > 0 && pending[first - 1].subtransaction == own) first--;

    int kept = first;
    for (int i = first; i < pending_count; i++) {
        Pending *entry = &pending[i];
        Pending *below = entry->below < 0 ? nullptr : &pending[entry->below];
        if (below != nullptr && below->slot == entry->slot && below->subtransaction == parent) {
            for (int c = 0; c < kChannelCounters; c++) below->amounts[c] += entry->amounts[c];
            below->dropped = below->dropped || entry->dropped;
            topmost[SlotNumber(entry->slot)] = entry->below + 1;
        } else {
            pending[kept] = *entry;
            pending[kept].subtransaction = parent;
            topmost[SlotNumber(entry->slot)] = ++kept;
        }
    }
    pending_count = kept;
}

void OnSubtransactionEnd(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *) {
    if (pending_count == 0) return;
    if (event == SUBXACT_EVENT_COMMIT_SUB) {
        MergeIntoParent(own, parent);
    } else if (event == SUBXACT_EVENT_ABORT_SUB) {
        // Subtransaction numbers grow: what is not below came with this one.
        while (pending_count > 0 && pending[pending_count - 1].subtransaction >= own) {
            const Pending &entry = pending[--pending_count];
            topmost[SlotNumber(entry.slot)] = entry.below + 1;
        }
    }
}

}  // namespace

void CountAtCommit(int slot, ChannelCounter counter, uint64 amount) {
    if (slot < 0 || amount == 0) return;
    PendingOf(slot)->amounts[static_cast<int>(counter)] += amount;
}

void RemoveChannelCountersAtCommit(Oid database, const char *channel) {
    int slot = FindChannelCounterSlot(database, channel);
    if (slot >= 0) PendingOf(slot)->dropped = true;
}

void InitPendingCounts() {
    RegisterXactCallback(OnTransactionEnd, nullptr);
    RegisterSubXactCallback(OnSubtransactionEnd, nullptr);
}

}  // namespace herald
