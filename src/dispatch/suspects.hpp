// What a dispatcher does about tasks whose handlers may have crashed the server (core/crash_notes.hpp):
// the crashes of guilty ones are recorded as failed attempts; suspects wait aside and are tried one at a
// time; the subscriptions concerned rest.

#pragma once

#include "pg/pg.hpp"

#include <vector>

#include "core/crash_notes.hpp"
#include "core/scheduler.hpp"
#include "registry/slots.hpp"

namespace herald {

class Suspects {
public:
    Suspects(Oid database, core::Scheduler *scheduler) : database_(database), scheduler_(scheduler) {}

    // Before the first scan: suspects are not to be dealt with the others.
    void SetAside(Oid extension);
    // Once all waiting tasks are known, and none has been dealt. Those found settled are cleared.
    void TakeOver(Oid extension, TimestampTz now);

    // The task is to be recorded, not run.
    bool IsGuilty(core::SubscriptionId subscription, core::MessageId message) const;

    // What became of a task that was dealt, suspected or not.
    void NoteOutcome(core::SubscriptionId subscription, core::MessageId message, Outcome outcome);

    // When the subscription may be dealt again; 0: at once; DT_NOEND: when something else has happened.
    TimestampTz RestsUntil(core::SubscriptionId subscription, TimestampTz now);
    // While it is to be found out who crashes the server, subscriptions concerned run one task at a time, and
    // one of them only.
    bool OneAtATime(core::SubscriptionId subscription) const;

    bool AnyLeft() const { return left_ > 0; }
    // Lets the next suspect run that may, once the one before is done with.
    void TryNext(TimestampTz now);

private:
    bool IsOwn(const core::Suspect &suspect) const {
        return suspect.database == database_ && suspect.extension == extension_;
    }
    bool PutAside(const core::Suspect &suspect, TimestampTz due);

    // An offender; until when it rests.
    struct Rest {
        core::SubscriptionId subscription;
        TimestampTz until;
    };

    Oid database_;
    Oid extension_ = InvalidOid;
    core::Scheduler *scheduler_;
    std::vector<Rest> rests_;
    int left_ = 0;  // suspects and guilty ones not done with
    const core::Suspect *tried_ = nullptr;
};

}  // namespace herald
