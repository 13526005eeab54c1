// What the current transaction has published so far.
//
// The lists live in TopMemoryContext and are kept from one transaction to the next, so that the usual
// transaction with one publication allocates nothing; texts lie in the transaction's own memory.

#pragma once

#include "outbox/outbox.hpp"

namespace herald {

struct CollectedTask {
    TaskEntry entry;
    SubTransactionId subtransaction;
};

struct CollectedAnnouncement {
    AnnouncementEntry entry;
    const char *text;  // channel, 0, payload, 0
    SubTransactionId subtransaction;
};

struct Publications {
    CollectedTask *tasks;
    uint32 task_count;
    CollectedAnnouncement *announcements;
    uint32 announcement_count;
    bool too_many_tasks;  // some were not kept
};

const Publications &CollectedPublications();
void ForgetPublications();
// At the ends of subtransactions.
void KeepPublications(SubTransactionId own, SubTransactionId parent);
void DropPublications(SubTransactionId own);

}  // namespace herald
