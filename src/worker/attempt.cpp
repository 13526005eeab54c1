// See attempt.hpp.
//
// Everything that a transaction means is in the slot before its commit (xid, outcome), so that whoever
// finds the slot after this process died can tell from the commit status alone what became of the task.

#include "worker/attempt.hpp"

#include "core/backoff.hpp"
#include "failure/failure_log.hpp"
#include "log/log_reader.hpp"
#include "log/settled.hpp"
#include "pg/extension.hpp"
#include "pg/process.hpp"
#include "subscription/subscription.hpp"
#include "worker/handler_call.hpp"

extern "C" {
#include "access/transam.h"
#include "access/xact.h"
#include "common/pg_prng.h"
#include "pgstat.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

// Subscriptions this worker has run tasks of, until a catalog change; each has its own context.
struct Known {
    int32 id;
    MemoryContext context;
    Subscription *subscription;
};
constexpr int kMaxKnown = 64;
Known known[kMaxKnown];
int next_known = 0;
volatile bool known_valid = false;

void ForgetKnown() { known_valid = false; }

Subscription *SubscriptionOf(int32 id) {
    if (!known_valid) {
        for (Known &entry : known) {
            if (entry.context != nullptr) MemoryContextDelete(entry.context);
            entry = Known{};
        }
        known_valid = true;
    }
    for (const Known &entry : known)
        if (entry.subscription != nullptr && entry.id == id) return entry.subscription;

    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pg_herald subscription",
                                                  ALLOCSET_SMALL_SIZES);
    Subscription *subscription = LoadSubscription(id, context);
    MemoryContextSetParent(context, TopMemoryContext);
    // The look-up itself may have heard of a change: then the copy serves this task only.
    Known *place = &known[next_known];
    next_known = (next_known + 1) % kMaxKnown;
    if (place->context != nullptr) MemoryContextDelete(place->context);
    *place = {id, context, subscription};
    return subscription;
}

void NoteOutcome(WorkerSlotShared *slot, Outcome outcome) {
    slot->outcome = outcome;
    // Assigned here at the latest, so that it is known before the commit.
    pg_write_barrier();
    pg_atomic_write_u32(&slot->xid, GetTopTransactionId());
}

void Settle(const core::Task &task) {
    if (task.message.segment == core::kParkedSegment)
        (void)DeleteParked(task.subscription, task.message.id);
    else
        WriteSettled(task.message.segment, task.subscription, &task.message.id, 1);
}

// kNone: it was read. Else why not.
Outcome ReadTask(const core::Task &task, StoredMessage *message) {
    if (task.message.segment == core::kParkedSegment) {
        bool parked = ReadParked(task.subscription, task.message.id, message, nullptr, nullptr);
        return parked ? Outcome::kNone : Outcome::kMissing;
    }
    ItemPointerData tid;
    ItemPointerSet(&tid, task.message.block, task.message.offset);
    if (ReadMessage(task.message.segment, tid, task.message.id, message)) return Outcome::kNone;
    // Not there: gone, or moved by a command that rewrites the table.
    return FindMessage(task.message.id, message) ? Outcome::kMoved : Outcome::kMissing;
}

void NoteNothing(WorkerSlotShared *slot, Outcome outcome) {
    slot->outcome = outcome;
    pg_atomic_write_u32(&slot->xid, InvalidTransactionId);
}

FailureRecord StartRecord(const WorkerSlotShared *slot, const Subscription &subscription,
                          const StoredMessage &message) {
    FailureRecord record = {};
    record.subscription_id = subscription.id;
    record.subscription = subscription.name;
    record.channel = subscription.channel;
    record.run_as = subscription.run_as;
    record.handler = subscription.handler;
    record.message_id = message.id;
    record.task_id = TaskIdOf(message);
    record.started_at = slot->started_at;
    record.failed_at = GetCurrentTimestamp();
    return record;
}

// Records failed attempts up to number `attempt`: a row of the failure log for each (more than one where
// workers died of the task), and the task parked or buried.
void SettleFailure(WorkerSlotShared *slot, const Subscription &subscription,
                   const StoredMessage &message, const ErrorData *error, int32 attempt) {
    pg::RequireExtension(slot->extension);
    // Removed while the task ran: the failure is recorded, but there is nobody to park the task for.
    const bool kept = KeepSubscription(subscription.id);
    FailureRecord record = StartRecord(slot, subscription, message);
    bool again = kept && attempt < subscription.max_attempts;
    TimestampTz next =
        again ? record.failed_at + core::DelayAfter(subscription.backoff, attempt,
                                                    pg_prng_double(&pg_global_prng_state))
              : DT_NOBEGIN;
    record.sqlstate = error->sqlerrcode;
    record.message = error->message;
    record.detail = error->detail;
    record.hint = error->hint;
    record.context = error->context;
    for (record.attempt = slot->task.attempts + 1; record.attempt <= attempt; record.attempt++) {
        // A lost run was followed by the next one at once.
        record.next_attempt_at = record.attempt < attempt ? record.failed_at : next;
        RecordFailure(record);
    }

    if (!kept) {
        NoteOutcome(slot, Outcome::kMissing);
        return;
    }
    // The log entry needs no more work; the parked row or the dead letter has the payload from here on.
    if (slot->task.message.segment != core::kParkedSegment) Settle(slot->task);
    if (again)
        ParkTask(subscription.id, message, attempt, next);
    else
        BuryTask(subscription.id, message, attempt, error->sqlerrcode, error->message,
                 record.failed_at);
    slot->attempts = attempt;
    slot->next_attempt_at = next;
    NoteOutcome(slot, again ? Outcome::kRetry : Outcome::kDead);
}

// A fault of definition holds the subscription: one row in the failure log, nobody charged.
void SettleFault(WorkerSlotShared *slot, const Subscription &subscription,
                 const StoredMessage &message, const DefinitionFault &fault) {
    pg::RequireExtension(slot->extension);
    FailureRecord record = StartRecord(slot, subscription, message);
    record.attempt = slot->task.attempts + 1;
    record.sqlstate = fault.sqlstate;
    record.message = fault.message;
    record.hint = "The subscription is held. Mend what is wrong, then call herald.resume().";
    record.next_attempt_at = DT_NOEND;  // when the subscription is resumed
    // Somebody else may have found the fault first: one row says it.
    if (HoldSubscription(subscription.id, fault.message)) RecordFailure(record);
    NoteOutcome(slot, Outcome::kHeld);
}

ErrorData *LostError(Order order, const core::Task &task, const Subscription &subscription) {
    ErrorData *error = static_cast<ErrorData *>(palloc0(sizeof(ErrorData)));
    error->elevel = ERROR;
    if (order == Order::kRecordTimeout) {
        error->sqlerrcode = ERRCODE_QUERY_CANCELED;
        error->message = psprintf("the handler did not end after its timeout of " INT64_FORMAT
                                  " ms and its worker was terminated",
                                  subscription.timeout);
    } else {
        error->sqlerrcode = ERRCODE_ADMIN_SHUTDOWN;
        error->message = psprintf("the worker ended %d times while it ran the task", task.losses);
    }
    return error;
}

void ReportActivity(const Subscription &subscription, int64 message_id, int32 attempt) {
    char activity[256];
    snprintf(activity, sizeof(activity), "herald: message " INT64_FORMAT ", attempt %d, subscription %s",
             message_id, attempt, subscription.name);
    pgstat_report_activity(STATE_RUNNING, activity);
}

// The transaction of an attempt, up to but not including its commit. `failure` is an error that the
// commit of the attempt itself raised: then only the record of it is written.
void PrepareOutcome(WorkerSlotShared *slot, ErrorData *failure) {
    const core::Task &task = slot->task;
    StoredMessage message;

    // Checked again, under a lock, before anything is settled: until then DROP EXTENSION need not wait
    // for the handler.
    if (pg::Tables().extension != slot->extension) {
        NoteNothing(slot, Outcome::kMissing);
        return;
    }
    Subscription *subscription = SubscriptionOf(task.subscription);
    Outcome unreadable =
        subscription == nullptr ? Outcome::kMissing : ReadTask(task, &message);
    if (unreadable != Outcome::kNone) {
        NoteNothing(slot, unreadable);
        return;
    }
    int32 attempt = task.attempts + 1;
    if (slot->order == Order::kRecordLoss) attempt = task.attempts + Max(task.losses, 1);
    if (failure == nullptr && slot->order != Order::kRun)
        failure = LostError(slot->order, task, *subscription);

    if (failure == nullptr) {
        DefinitionFault fault;
        Oid function = CheckDefinition(*subscription, &fault);
        if (fault.sqlstate != 0) {
            SettleFault(slot, *subscription, message, fault);
            return;
        }
        slot->started_at = GetCurrentTimestamp();
        slot->latency = slot->started_at - message.published_at;
        slot->deadline = subscription->timeout > 0
                             ? slot->started_at + subscription->timeout * INT64CONST(1000)
                             : DT_NOEND;
        ReportActivity(*subscription, task.message.id, attempt);
        failure = CallHandler(*subscription, function, message, attempt);
    }
    if (failure == nullptr) {
        pg::RequireExtension(slot->extension);
        Settle(task);
        NoteOutcome(slot, Outcome::kDone);
    } else {
        SettleFailure(slot, *subscription, message, failure, attempt);
    }
    CleanSessionInTransaction();
}

// Runs one transaction; a copy of the error in `context` where it failed.
ErrorData *TryTransaction(WorkerSlotShared *slot, ErrorData *failure, MemoryContext context) {
    ErrorData *volatile error = nullptr;

    PG_TRY();
    {
        pg::BeginTransaction();
        MemoryContextSwitchTo(context);
        PrepareOutcome(slot, failure);
        pg::CommitTransaction();
    }
    PG_CATCH();
    {
        HOLD_CANCEL_INTERRUPTS();  // as outside: raising the ERROR let go of it
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
        AbortCurrentTransaction();
        // An ERROR after the commit changes nothing about it.
        TransactionId xid = pg_atomic_read_u32(&slot->xid);
        if (TransactionIdIsValid(xid) && TransactionIdDidCommit(xid)) error = nullptr;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    return error;
}

}  // namespace

void RunAttempt(WorkerSlotShared *slot) {
    MemoryContext context =
        AllocSetContextCreate(TopMemoryContext, "pg_herald attempt", ALLOCSET_DEFAULT_SIZES);
    slot->started_at = GetCurrentTimestamp();

    ErrorData *error = TryTransaction(slot, nullptr, context);
    if (error != nullptr) {
        // The handler is out of it: its own errors end in its subtransaction. What is left is the commit
        // (a deferred trigger) or our own writing; the attempt is recorded if that is possible now.
        NoteNothing(slot, Outcome::kNone);
        ErrorData *second = TryTransaction(slot, error, context);
        if (second != nullptr) {
            NoteNothing(slot, Outcome::kNone);
            ereport(LOG, (errcode(second->sqlerrcode),
                          errmsg("could not record the outcome of a task: %s", second->message),
                          errdetail("Subscription %d, message " INT64_FORMAT
                                    "; the task will be tried again.",
                                    slot->task.subscription, slot->task.message.id)));
        }
    }
    CleanSessionAfterTransaction();
    pgstat_report_activity(STATE_IDLE, nullptr);
    MemoryContextSwitchTo(TopMemoryContext);
    MemoryContextDelete(context);
}

void InitAttempts() { pg::OnCatalogChange(ForgetKnown); }

}  // namespace herald
