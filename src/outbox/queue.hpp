// What the parts of the outbox use of each other: chains of cells that are taken, filled and linked.

#pragma once

#include "outbox/outbox.hpp"

namespace herald {

// Cells taken by one transaction for one queue, not linked yet. Numbers are cell numbers + 1.
struct OutboxChain {
    uint32 first;
    uint32 last;
    uint32 entries;
};

// How many cells an entry with that much text takes.
uint32 CellsFor(uint32 text_bytes);
// Takes `cells` cells; false where there are not so many.
bool TakeCells(uint32 cells, uint32 *free_list);
// Appends an entry to a chain, using cells of the list.
void AddToChain(OutboxChain *chain, uint32 *free_list, const OutboxEntry &entry, const char *text);
// Links a chain to a queue. Safe in a commit callback.
void LinkChain(DatabaseShared *database, Consumer consumer, OutboxChain *chain);
// Gives the cells of a chain back. Safe in an abort callback.
void FreeChain(OutboxChain *chain);

// A number for the current transaction that no other has.
uint64 NextPublisher();

// Empties the queues of a database that is gone.
void EmptyOutboxOf(DatabaseShared *database);

}  // namespace herald
