// See attempt.hpp.

#include "worker/attempt.hpp"

#include "core/backoff.hpp"
#include "core/crash_notes.hpp"
#include "failure/failure_log.hpp"
#include "parked/parked_row.hpp"
#include "log/log_reader.hpp"
#include "registry/database.hpp"
#include "pg/epoch.hpp"
#include "pg/clip.hpp"
#include "pg/extension.hpp"
#include "settings.hpp"
#include "stats/subscription_counters.hpp"
#include "subscription/subscription.hpp"
#include "worker/batch_timer.hpp"
#include "worker/handler_call.hpp"
#include "process/session.hpp"

extern "C" {
#include "access/xact.h"
#include "common/pg_prng.h"
#include "pgstat.h"
#include "utils/inval.h"
#include "utils/syscache.h"
}

namespace herald {

namespace {

// Subscriptions this worker has run tasks of, until a catalog change; each has its own context.
struct Known {
    int32 id;
    MemoryContext context;
    Subscription *subscription;
    // Found by CheckDefinition to be all right, in this epoch of `definitions`.
    Oid function;
    pg::Stamp checked;
};
constexpr int kMaxKnown = 64;
constexpr int kMaxLogged = 1024;  // bytes of an error
Known known[kMaxKnown];
int next_known = 0;
pg::Epoch subscriptions;
pg::Stamp known_stamp = {};  // of `known`

// Ends with each change of what CheckDefinition looks at: functions, roles, rights.
pg::Epoch definitions;

void ForgetKnown() { subscriptions.End(); }

void OnDefinitionChange(Datum, pg::SyscacheNumber, uint32) { definitions.End(); }

Known *KnownSubscription(int32 id) {
    if (!subscriptions.Is(known_stamp)) {
        for (Known &entry : known) {
            if (entry.context != nullptr) MemoryContextDelete(entry.context);
            entry = Known{};
        }
        known_stamp = subscriptions.Now();
    }
    for (Known &entry : known)
        if (entry.subscription != nullptr && entry.id == id) return &entry;

    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pg_herald subscription", ALLOCSET_SMALL_SIZES);
    Subscription *subscription = LoadSubscription(id, context);
    MemoryContextSetParent(context, TopMemoryContext);
    // The look-up itself may have heard of a change: then the copy serves this task only.
    Known *place = &known[next_known];
    next_known = (next_known + 1) % kMaxKnown;
    if (place->context != nullptr) MemoryContextDelete(place->context);
    *place = {id, context, subscription, InvalidOid, {}};
    return place;
}

// CheckDefinition, where anything of it may have changed.
Oid DefinitionOf(Known *entry, DefinitionFault *fault) {
    static bool superusers = false;
    if (superusers != settings::superuser_handlers) definitions.End();
    superusers = settings::superuser_handlers;
    fault->sqlstate = 0;
    if (definitions.Is(entry->checked)) return entry->function;
    // First: the check itself may hear of a change.
    const pg::Stamp seen = definitions.Now();
    Oid function = CheckDefinition(*entry->subscription, fault);
    entry->function = function;
    entry->checked = fault->sqlstate == 0 ? seen : pg::Stamp{};
    return function;
}

// Checked before anything is settled, under a lock, and not earlier: until then DROP EXTENSION need not
// wait for the handler.
void RequireExtension(const WorkerSlotShared *slot, Settlement *settlement) {
    if (!settlement->writes) pg::RequireExtension(slot->extension);
    settlement->writes = true;
}

void Settle(const core::Task &task, Settlement *settlement) {
    const int segment = task.message.segment;
    if (segment == core::kParkedSegment)
        (void)DeleteParked(task.subscription, task.message.id);
    else
        settlement->ids[segment][settlement->count[segment]++] = task.message.id;
}

// kNone: it was read. Else why not.
Outcome ReadTask(const WorkerSlotShared *slot, const core::Task &task, StoredMessage *message) {
    if (task.message.segment == core::kParkedSegment) {
        bool parked = ReadParked(task.subscription, task.message.id, message);
        return parked ? Outcome::kNone : Outcome::kMissing;
    }
    ItemPointerData tid;
    ItemPointerSet(&tid, task.message.block, task.message.offset);
    const bool found = ReadMessage(task.message.segment, tid, task.message.id, message);
    // Parked by rotation, whose lock was waited for, or moved by a command that rewrites the table. Who reads
    // all addresses anew also sees if it is gone.
    const bool moved = pg_atomic_read_u32(&ThisDatabase()->log.moves) != slot->moves;
    return found && !moved ? Outcome::kNone : Outcome::kMoved;
}

FailureRecord StartRecord(const WorkerSlotShared *slot, const Subscription &subscription,
                          const StoredMessage &message) {
    FailureRecord record = {};
    record.subscription_id = subscription.id;
    record.subscription = subscription.name;
    record.channel = subscription.channel;
    record.run_as = subscription.run_as;
    record.role = subscription.role;
    record.handler = subscription.handler;
    record.message_id = message.id;
    record.task_id = TaskIdOf(message);
    record.started_at = slot->started_at;
    record.failed_at = GetCurrentTimestamp();
    return record;
}

TimestampTz DelayOf(const WorkerSlotShared &slot, const Subscription &subscription, int32 attempt) {
    const TimestampTz delay = core::DelayAfter(subscription.backoff, attempt, pg_prng_double(&pg_global_prng_state));
    // Whatever the subscription says: a server that crashes must come to rest in between.
    return slot.order == Order::kRecordCrash ? Max(delay, core::RestAfter(attempt)) : delay;
}

// One line a minute for each subscription: many tasks fail for the same reason.
void LogDeadLetter(const Subscription &subscription, const StoredMessage &message, int32 attempt,
                   const ErrorData &error) {
    SubscriptionShared *shared = FindSubscriptionShared(MyDatabaseId, subscription.id);
    uint32 others = 0;
    if (shared != nullptr && !MayLogDeadLetter(shared, GetCurrentTimestamp(), &others)) return;
    ereport(LOG, (errcode(error.sqlerrcode),
                  errmsg("message " INT64_FORMAT " is a dead letter of subscription \"%s\" after attempt %d: %s",
                         message.id, subscription.name, attempt,
                         pg::ClipText(error.message == nullptr ? "unknown error" : error.message, kMaxLogged)),
                  others > 0 ? errdetail("%u more since the last such line.", others) : 0,
                  errhint("See herald.dead_letters and herald.failure_log; herald.replay() runs it again.")));
}

// Records failed attempts up to number `attempt`: a row of the failure log for each (more than one where
// workers died of the task), and the task parked or buried.
void SettleFailure(WorkerSlotShared *slot, SlotTask *result, const Subscription &subscription,
                   const StoredMessage &message, const ErrorData *error, int32 attempt, Settlement *settlement) {
    RequireExtension(slot, settlement);
    // Removed while the task ran: the failure is recorded, but there is nobody to park the task for.
    const Attempted keeping = KeepSubscription(subscription.id);
    if (keeping == Attempted::kLocked) {
        result->outcome = Outcome::kLocked;
        return;
    }
    const bool kept = keeping == Attempted::kDone;
    FailureRecord record = StartRecord(slot, subscription, message);
    bool again = kept && attempt < subscription.max_attempts;
    TimestampTz next = again ? record.failed_at + DelayOf(*slot, subscription, attempt) : DT_NOBEGIN;
    record.sqlstate = error->sqlerrcode;
    record.message = error->message;
    record.detail = error->detail;
    record.hint = error->hint;
    record.context = error->context;
    for (record.attempt = result->task.attempts + 1; record.attempt <= attempt; record.attempt++) {
        // A lost run was followed by the next one at once.
        record.next_attempt_at = record.attempt < attempt ? record.failed_at : next;
        RecordFailure(record);
    }

    if (!kept) {
        result->outcome = Outcome::kMissing;
        return;
    }
    // The log entry needs no more work; the parked row or the dead letter has the payload from here on.
    if (result->task.message.segment != core::kParkedSegment) Settle(result->task, settlement);
    if (again)
        ParkTask(subscription.id, message, attempt, next);
    else
        BuryTask(subscription.id, message, attempt, error->sqlerrcode, error->message, record.failed_at);
    if (!again) LogDeadLetter(subscription, message, attempt, *error);
    result->attempts = attempt;
    result->next_attempt_at = next;
    result->outcome = again ? Outcome::kRetry : Outcome::kDead;
}

// A fault of definition holds the subscription: one row in the failure log, nobody charged.
void SettleFault(WorkerSlotShared *slot, SlotTask *result, const Subscription &subscription,
                 const StoredMessage &message, const DefinitionFault &fault, Settlement *settlement) {
    RequireExtension(slot, settlement);
    FailureRecord record = StartRecord(slot, subscription, message);
    record.attempt = result->task.attempts + 1;
    record.sqlstate = fault.sqlstate;
    record.message = fault.message;
    record.hint = "The subscription is held. Mend what is wrong, then call herald.resume().";
    record.next_attempt_at = DT_NOEND;  // when the subscription is resumed
    // Somebody else may have found the fault first: one row says it.
    const Attempted holding = HoldSubscription(subscription, fault.message);
    if (holding == Attempted::kDone) RecordFailure(record);
    result->outcome = holding == Attempted::kLocked ? Outcome::kLocked : Outcome::kHeld;
}

ErrorData *LostError(Order order, const core::Task &task, const Subscription &subscription) {
    ErrorData *error = static_cast<ErrorData *>(palloc0(sizeof(ErrorData)));
    error->elevel = ERROR;
    if (order == Order::kRecordTimeout) {
        error->sqlerrcode = ERRCODE_QUERY_CANCELED;
        error->message =
            psprintf("the handler did not end after its timeout of " INT64_FORMAT " ms and its worker was terminated",
                     subscription.timeout);
    } else if (order == Order::kRecordCrash) {
        error->sqlerrcode = ERRCODE_CRASH_SHUTDOWN;
        error->message = pstrdup("the server crashed while the handler ran");
        error->hint = pstrdup("The server log tells how the process ended.");
    } else {
        error->sqlerrcode = ERRCODE_ADMIN_SHUTDOWN;
        error->message = psprintf("the worker ended %d times while it ran the task", task.losses);
    }
    return error;
}

// Put together by hand: snprintf would take longer than some handlers.
void ReportActivity(const Subscription &subscription, int64 message_id, int32 attempt) {
    char activity[NAMEDATALEN + 128];
    char *end = activity;
    // What a table says is cut, whatever it should have said: the numbers take less than is kept for them.
    auto add = [&end](std::string_view part) {
        const std::size_t length = Min(part.size(), static_cast<std::size_t>(NAMEDATALEN));
        std::memcpy(end, part.data(), length);
        end += length;
    };
    add("herald: message ");
    end += pg_lltoa(message_id, end);
    add(", attempt ");
    end += pg_ltoa(attempt, end);
    add(", subscription ");
    add(subscription.name);
    *end = '\0';
    pgstat_report_activity(STATE_RUNNING, activity);
}

// True if the task may have failed because of the tasks before it in the transaction: their locks, and
// the time and memory they took.
bool MayBeOthersFault(const ErrorData *error, TimestampTz deadline) {
    switch (error->sqlerrcode) {
        case ERRCODE_T_R_DEADLOCK_DETECTED:
        case ERRCODE_T_R_SERIALIZATION_FAILURE:
        case ERRCODE_LOCK_NOT_AVAILABLE:
            return true;
        case ERRCODE_QUERY_CANCELED:
            return WasCut() || GetCurrentTimestamp() >= deadline;
        default:
            return WasCut() || ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES;
    }
}

}  // namespace

int IsolationOf(int32 subscription) {
    const Known *entry = KnownSubscription(subscription);
    return entry->subscription == nullptr ? XACT_READ_COMMITTED : entry->subscription->isolation;
}

After RunAttempt(WorkerSlotShared *slot, int place, ErrorData *failure, Settlement *settlement) {
    SlotTask *result = &slot->tasks[place];
    const core::Task &task = result->task;
    StoredMessage message;

    if (pg::Tables().extension != slot->extension) {
        result->outcome = Outcome::kMissing;
        return After::kStop;
    }
    Known *entry = KnownSubscription(task.subscription);
    Subscription *subscription = entry->subscription;
    Outcome unreadable = subscription == nullptr ? Outcome::kMissing : ReadTask(slot, task, &message);
    if (unreadable != Outcome::kNone) {
        result->outcome = unreadable;
        return unreadable == Outcome::kMoved ? After::kStop : After::kGoOn;
    }
    int32 attempt = task.attempts + 1;
    if (slot->order == Order::kRecordLoss || slot->order == Order::kRecordCrash)
        attempt = task.attempts + Max(task.losses, 1);
    if (failure == nullptr && slot->order != Order::kRun) failure = LostError(slot->order, task, *subscription);

    const bool shares = place > 0;
    // Dealt before the subscription got another role. That it has none any more, the check says.
    if (failure == nullptr && OidIsValid(subscription->role) && subscription->role != GetUserId()) {
        result->outcome = Outcome::kOtherRole;
        return After::kStop;
    }
    if (failure == nullptr) {
        DefinitionFault fault;
        Oid function = DefinitionOf(entry, &fault);
        if (fault.sqlstate != 0) {
            SettleFault(slot, result, *subscription, message, fault, settlement);
            return After::kStop;
        }
        slot->started_at = GetCurrentTimestamp();
        result->latency = slot->started_at - message.published_at;
        slot->deadline =
            subscription->timeout > 0 ? slot->started_at + subscription->timeout * INT64CONST(1000) : DT_NOEND;
        ReportActivity(*subscription, task.message.id, attempt);
        failure = CallHandler(*subscription, function, message, attempt, shares);
        if (failure != nullptr && IsolationUsesXactSnapshot() &&
            failure->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE)
            ReThrowError(failure);
    }
    After after = LeftTrace() ? After::kTrouble : After::kGoOn;
    if (failure == nullptr) {
        RequireExtension(slot, settlement);
        Settle(task, settlement);
        result->outcome = Outcome::kDone;
    } else if (shares && MayBeOthersFault(failure, slot->deadline)) {
        result->outcome = Outcome::kAlone;
        after = After::kTrouble;
    } else {
        SettleFailure(slot, result, *subscription, message, failure, attempt, settlement);
        if (result->outcome == Outcome::kLocked) after = After::kStop;
    }
    CleanSessionInTransaction();
    return after;
}

void InitAttempts() {
    pg::OnCatalogChange(ForgetKnown);
    for (pg::SyscacheNumber cache : {PROCOID, NAMESPACEOID, AUTHOID, AUTHMEMMEMROLE, DATABASEOID, TYPEOID})
        CacheRegisterSyscacheCallback(cache, OnDefinitionChange, static_cast<Datum>(0));
}

}  // namespace herald
