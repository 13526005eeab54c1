// What subscribe and alter_subscription take, and the rules for it.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// What is left out (NULL, empty) keeps its value in alter; subscribe fills everything but run_as.
struct SubscriptionOptions {
    const char *channel;
    const char *handler;
    std::optional<int32> max_concurrency;
    std::optional<int32> max_attempts;
    const Interval *retry_delay;
    std::optional<double> retry_backoff;
    const Interval *max_retry_delay;
    const Interval *timeout;
    const char *start_at;  // "new" or "earliest"
    const char *run_as;
    const char *owner;  // alter only
    std::optional<bool> batch;
    const char *isolation;  // "read committed", "repeatable read" or "serializable"
};

// 22023 for what is no subscription name: 1 to 63 bytes.
void CheckSubscriptionName(const char *name);

// XACT_READ_COMMITTED and its like; -1 for what is none.
int IsolationFromName(const char *name);

// 22023 for an option out of range.
void CheckSubscriptionOptions(const SubscriptionOptions &options);

// The role that handlers shall run as. 42704: there is no such role; 42501: the caller is no member of
// it, it is a superuser where those are refused, or it may not connect; 28000: it can't start a worker.
// `role` is that of the name, or InvalidOid.
void CheckRunAs(Oid role, const char *name);

// The role that shall own a subscription from now on, whose handlers run as `run_as`. 42704: there is no such role;
// 42501: the caller may not become it, or it may not become run_as.
Oid CheckNewOwner(const char *name, const char *subscription, Oid run_as, const char *run_as_name);

}  // namespace herald
