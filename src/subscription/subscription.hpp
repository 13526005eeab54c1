// A subscription as the dispatcher and the workers need it: a copy of its row with the names resolved
// as far as they resolve now. The row is the truth; a change of it raises kFlagReload.

#pragma once

#include "core/backoff.hpp"
#include "pg/pg.hpp"
#include "subscription/handler.hpp"

namespace herald {

enum class SubscriptionState : uint8 {
    kActive = 0,  // its tasks are dealt
    kPaused,      // by pause(): tasks are collected, none is dealt; resume() ends it
    kHeld,        // by a worker, for a fault of definition; resume() or a new handler ends it
};

struct Subscription {
    int32 id;
    char *name;
    int32 channel_id;
    char *channel;  // its name
    char *handler;  // as stored: schema.function(argument type), quoted
    HandlerKind handler_kind;
    char *owner;             // role name as it is now, or as it was if the role is gone
    Oid owner_role;          // InvalidOid: it is gone
    char *run_as;            // as owner
    Oid role;                // of run_as; InvalidOid: it is gone
    char *handler_owner;     // who owned the function that was meant, as owner; NULL: unknown
    Oid handler_owner_role;  // InvalidOid: it is gone, or unknown
    int32 max_concurrency;
    int32 max_attempts;
    core::BackoffPolicy backoff;
    int64 timeout;  // milliseconds of one attempt; 0: none
    bool batch;     // may share a transaction with other tasks
    int isolation;  // XACT_READ_COMMITTED and its like: of the transactions that handlers run in
    SubscriptionState state;
    char *reason;  // why it is held or paused, or NULL
    bool inert;    // belongs to another cluster or database: nothing runs until activate()
};

// The subscription of that id, or that name, with all its strings in `context`; NULL: there is none.
// Need a transaction.
Subscription *LoadSubscription(int32 id, MemoryContext context);
Subscription *LoadSubscriptionByName(const char *name, MemoryContext context);

// All subscriptions of this database, by id. The array lies in `context`.
Subscription *LoadSubscriptions(MemoryContext context, int *count);

// Neither waits for a user who has the subscription's row locked, for any length of time: that is to be tried again.
enum class Attempted {
    kDone,
    kNotThere,  // it is gone; or, where it was to be held, not active (any more)
    kLocked,
};

// Puts a subscription on hold with a reason, in the current transaction; a paused one stays paused.
// The dispatcher hears of it at commit.
Attempted HoldSubscription(const Subscription &subscription, const char *reason);

// Keeps the subscription from being removed until the transaction ends.
Attempted KeepSubscription(int32 id);

const char *NameOfState(SubscriptionState state);

// True where the caller may manage the subscription: a member of its owner, or a superuser. An owner
// that was dropped leaves it to superusers.
bool OwnsSubscription(const Subscription &subscription);

// The subscription of that name, in the current memory context; 42704 where there is none, 42501
// where the caller may not manage it.
Subscription *FindOwnedSubscription(const char *name);

}  // namespace herald
