// The memory of the outbox: cells of one size, taken from a free list. An entry lies in one cell, its text
// in further ones that hang on it.
//
// All of it is guarded by the outbox lock, which is held for as long as it takes to link, copy or free a
// few cells, never over anything that can wait. What many cells are needed for is done in pieces, with the
// lock given up in between.
//
// Shares: nobody may fill the outbox for others. A role may hold at most three times, all roles of a
// database together at most seven times as many cells as would be left free. So one role alone gets three
// quarters of the outbox, and the next one still finds room.

#pragma once

#include "outbox/outbox.hpp"

namespace herald {

// What a prepared transaction has for a consumer: its entries hang on this cell, so that nobody steps over
// each of them until it has ended. Written by the transaction, and once more when it is linked.
struct PreparedEntry {
    uint64 publisher;  // as in AnnouncementEntry
    TransactionId xid;
    uint32 flags;  // for the dispatcher, if it is committed
    uint32 last;   // of its entries; the first one is `more`
    uint32 entries;
};

struct Cell {
    union {
        TaskEntry task;
        AnnouncementEntry announcement;
        PreparedEntry prepared;
        char text[48];
    };
    uint32 next;         // of the queue, the chain or the free list; cell number + 1, 0: none
    uint32 more;         // where the entry's text goes on, or the first one of a prepared transaction
    uint32 share;        // whose cells these are; of an entry's first cell
    uint32 is_prepared;  // 1: `prepared` is what stands here
};
static_assert(sizeof(Cell) == 64);

// Cells taken by one transaction for one queue, not linked yet. Numbers are cell numbers + 1.
struct OutboxChain {
    uint32 first;
    uint32 last;
    uint32 entries;
};

Cell *CellAt(uint32 number);

// Gives an entry's cells back, under the outbox lock; how many. One of a prepared transaction: with all that hangs on it.
uint32 FreeEntry(DatabaseShared *database, uint32 number);

// How many cells an entry with that much text takes.
uint32 CellsFor(uint32 text_bytes);
// Takes `cells` cells for a role; false where there are not so many, or its share is used up.
bool TakeCells(DatabaseShared *database, Oid role, uint32 cells, uint32 *free_list);
// Takes the next cell of the list, for an entry of that role, and appends it to the chain.
Cell *AddToChain(OutboxChain *chain, uint32 *free_list, Oid role);
// Hangs a text on the entry added last.
void AddText(OutboxChain *chain, uint32 *free_list, const char *text, uint32 bytes);
// Adds an entry to the end of a chain; whoever unlinked it, or filled it.
void Append(OutboxChain *chain, uint32 number);
// Gives the cells of a chain back, without the outbox lock. Safe in an abort callback.
void FreeChain(DatabaseShared *database, OutboxChain *chain);

}  // namespace herald
