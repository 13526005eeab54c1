// See suspects.hpp.

#include "dispatch/suspects.hpp"

#include "worker/crash_file.hpp"

#include <algorithm>
#include <span>

namespace herald {

namespace {

std::span<core::Suspect> All() { return {CrashSuspects(), core::kSuspects}; }

std::span<core::Offender> Offenders() { return {CrashOffenders(), core::kOffenders}; }

constexpr int kPatience = 3;

// Done with: the task is settled, or its crashes are recorded.
bool Clears(Outcome outcome) {
    switch (outcome) {
        case Outcome::kDone:
        case Outcome::kRetry:
        case Outcome::kDead:
        case Outcome::kMissing:
            return true;
        default:
            return false;
    }
}

}  // namespace

// It waits until it is put aside again with another time, by itself.
bool Suspects::PutAside(const core::Suspect &suspect, TimestampTz due) {
    const core::Task &task = suspect.task;
    if (!scheduler_->Claim(task.subscription, task.message.id, task.attempts)) return false;
    if (suspect.guilty)
        scheduler_->Return(task.subscription, task.message.id, suspect.crashes, true);
    else
        scheduler_->Return(task.subscription, task.message.id, 0, true, due);
    return true;
}

void Suspects::SetAside(Oid extension) {
    extension_ = extension;
    for (const core::Suspect &suspect : All())
        if (IsOwn(suspect)) scheduler_->SetAside(suspect.task.subscription, suspect.task.message.id);
}

void Suspects::TakeOver(Oid extension, TimestampTz now) {
    extension_ = extension;
    left_ = 0;
    tried_ = nullptr;
    rests_.clear();
    for (core::Offender &offender : Offenders()) {
        if (offender.database != database_) continue;
        if (offender.extension != extension || now - offender.crashed_at > core::kForgiven)
            offender.database = InvalidOid;
        else
            rests_.push_back({offender.subscription, offender.crashed_at + core::RestAfter(offender.crashes)});
    }
    for (core::Suspect &suspect : All()) {
        if (suspect.database != database_) continue;
        const core::Task &task = suspect.task;
        const bool known = IsOwn(suspect) &&
                           (scheduler_->IsRunning(task.subscription, task.message.id) || PutAside(suspect, DT_NOEND));
        if (known)
            left_++;
        else
            suspect.database = InvalidOid;
    }
    scheduler_->ForgetAside();
}

void Suspects::TryNext(TimestampTz now) {
    if (left_ == 0) return;
    if (tried_ != nullptr) {
        const core::Task &task = tried_->task;
        // One that may not run at present keeps nobody waiting.
        if (scheduler_->IsRunnable(task.subscription) || scheduler_->IsRunning(task.subscription, task.message.id))
            return;
        (void)PutAside(*tried_, DT_NOEND);
        tried_ = nullptr;
    }
    for (core::Suspect &suspect : All()) {
        const core::Task &task = suspect.task;
        if (!IsOwn(suspect) || suspect.guilty || !scheduler_->IsRunnable(task.subscription)) continue;
        // Where it runs already, its worker was adopted.
        if (scheduler_->IsRunning(task.subscription, task.message.id) ||
            PutAside(suspect, Max(now, suspect.crashed_at + core::RestAfter(suspect.crashes)))) {
            tried_ = &suspect;
            return;
        }
        // Cancelled meanwhile.
        suspect.database = InvalidOid;
        left_--;
    }
}

bool Suspects::IsGuilty(core::SubscriptionId subscription, core::MessageId message) const {
    if (left_ == 0) return false;
    for (const core::Suspect &suspect : All())
        if (IsOwn(suspect) && suspect.guilty && suspect.task.subscription == subscription &&
            suspect.task.message.id == message)
            return true;
    return false;
}

void Suspects::NoteOutcome(core::SubscriptionId subscription, core::MessageId message, Outcome outcome) {
    if (left_ == 0 || (!Clears(outcome) && outcome != Outcome::kMoved)) return;
    for (core::Suspect &suspect : All()) {
        if (!IsOwn(suspect) || suspect.task.subscription != subscription || suspect.task.message.id != message)
            continue;
        // It is found again if it was parked, but not if a command has rewritten the table.
        if (outcome == Outcome::kMoved && ++suspect.moves < kPatience) continue;
        suspect.database = InvalidOid;
        left_--;
        if (tried_ == &suspect) tried_ = nullptr;
    }
}

bool Suspects::OneAtATime(core::SubscriptionId subscription) const {
    return left_ > 0 && std::any_of(rests_.begin(), rests_.end(),
                                    [subscription](const Rest &rest) { return rest.subscription == subscription; });
}

TimestampTz Suspects::RestsUntil(core::SubscriptionId subscription, TimestampTz now) {
    // As long as there are suspects, who rested is still to be told from the others.
    if (left_ == 0) std::erase_if(rests_, [now](const Rest &rest) { return rest.until <= now; });
    for (const Rest &rest : rests_) {
        if (rest.subscription != subscription) continue;
        if (rest.until > now) return rest.until;
        // While one of another subscription is tried.
        return tried_ == nullptr || tried_->task.subscription == subscription ? 0 : DT_NOEND;
    }
    return 0;
}

}  // namespace herald
