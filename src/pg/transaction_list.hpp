// What the current transaction has collected of one kind, in order, each item with the subtransaction that it belongs to:
// an item's type has a member `subtransaction`. As savepoints nest, those of the last one are always at the end.
//
// The memory is kept from one transaction to the next, so that the usual one allocates nothing; much is given back.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "access/xact.h"
}

namespace herald::pg {

template <typename Item>
struct TransactionList {
    Item *items;
    int count;
    int capacity;

    static constexpr int kKept = 64;

    // Makes room for one more. May raise an ERROR, and has changed nothing then.
    void Reserve() {
        if (count < capacity) return;
        const int wanted = capacity == 0 ? 16 : 2 * capacity;
        const Size bytes = sizeof(Item) * static_cast<Size>(wanted);
        items = static_cast<Item *>(items == nullptr ? MemoryContextAlloc(TopMemoryContext, bytes)
                                                     : repalloc_huge(items, bytes));
        capacity = wanted;
    }

    // As Reserve().
    Item *Add(const Item &item) {
        Reserve();
        items[count] = item;
        return &items[count++];
    }

    // None of these can fail.
    void KeepSub(SubTransactionId own, SubTransactionId parent) {
        for (int i = count; i > 0 && items[i - 1].subtransaction >= own; i--) items[i - 1].subtransaction = parent;
    }

    // Calls undo(item) for each that goes, the last one first.
    template <typename Undo>
    void DropSub(SubTransactionId own, Undo &&undo) {
        while (count > 0 && items[count - 1].subtransaction >= own) undo(items[--count]);
    }
    void DropSub(SubTransactionId own) {
        DropSub(own, [](const Item &) {});
    }

    void Forget() {
        count = 0;
        if (capacity <= kKept) return;
        pfree(items);
        items = nullptr;
        capacity = 0;
    }

    Item *begin() { return items; }
    Item *end() { return items + count; }
    const Item *begin() const { return items; }
    const Item *end() const { return items + count; }
};

}  // namespace herald::pg
