// What the current transaction has published so far.
//
// Texts lie in the transaction's own memory.

#pragma once

#include "outbox/outbox.hpp"
#include "pg/transaction_list.hpp"

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
    pg::TransactionList<CollectedTask> tasks;
    pg::TransactionList<CollectedAnnouncement> announcements;
    bool too_many_tasks;  // some were not kept
};

const Publications &CollectedPublications();
bool IsEmpty(const Publications &publications);
void ForgetPublications();
// At the ends of subtransactions.
void KeepPublications(SubTransactionId own, SubTransactionId parent);
void DropPublications(SubTransactionId own);

}  // namespace herald
