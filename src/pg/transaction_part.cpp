// See transaction_part.hpp.

#include "pg/transaction_part.hpp"

extern "C" {
#include "access/xact.h"
}

namespace herald::pg {

namespace {

const TransactionPart *const *followers = nullptr;
int follower_count = 0;

template <typename Tell>
void TellAll(Tell &&tell) {
    for (int i = 0; i < follower_count; i++) tell(*followers[i]);
}

void OnTransactionEvent(XactEvent event, void *) {
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
            TellAll([](const TransactionPart &part) { part.before_commit(); });
            break;
        case XACT_EVENT_PRE_PREPARE:
            TellAll([](const TransactionPart &part) { part.before_prepare(); });
            break;
        case XACT_EVENT_COMMIT:
            TellAll([](const TransactionPart &part) { part.committed(); });
            break;
        case XACT_EVENT_PREPARE:
            TellAll([](const TransactionPart &part) { part.prepared(); });
            break;
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PARALLEL_COMMIT:
        case XACT_EVENT_PARALLEL_ABORT:
            TellAll([](const TransactionPart &part) { part.aborted(); });
            break;
        case XACT_EVENT_PARALLEL_PRE_COMMIT:
            break;
    }
}

void OnSubtransactionEvent(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *) {
    switch (event) {
        case SUBXACT_EVENT_COMMIT_SUB:
            TellAll([=](const TransactionPart &part) { part.sub_committed(own, parent); });
            break;
        case SUBXACT_EVENT_ABORT_SUB:
            TellAll([=](const TransactionPart &part) { part.sub_aborted(own); });
            break;
        case SUBXACT_EVENT_START_SUB:
        case SUBXACT_EVENT_PRE_COMMIT_SUB:
            break;
    }
}

}  // namespace

void FollowTransactions(const TransactionPart *const *parts, int count) {
    followers = parts;
    follower_count = count;
    RegisterXactCallback(OnTransactionEvent, nullptr);
    RegisterSubXactCallback(OnSubtransactionEvent, nullptr);
}

}  // namespace herald::pg
