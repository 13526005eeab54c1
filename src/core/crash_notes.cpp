// See crash_notes.hpp.

#include "core/crash_notes.hpp"

#include <algorithm>
#include <iterator>

namespace herald::core {

namespace {

constexpr Microseconds kFirstRest = 1000000;
constexpr Microseconds kLongestRest = 60 * kFirstRest;

// A task that was running.
struct Open {
    const RunningNote *note;
    const Task *task;
};

// Calls visit(open) for each. Nothing is collected: this runs in the postmaster, which an exception would end.
template <typename Visit>
void ForEachOpen(const CrashNotes &notes, Visit visit) {
    for (const RunningNote &note : notes.running) {
        const int begun = static_cast<int>(std::min<std::uint32_t>(note.begun, kMaxBatch));
        for (int i = note.committing ? 0 : begun - 1; i >= 0 && i < begun; ++i) visit(Open{&note, &note.tasks[i]});
    }
}

Suspect *FindSuspect(CrashNotes *notes, const Open &open) {
    for (Suspect &suspect : notes->suspects)
        if (suspect.database == open.note->database && suspect.extension == open.note->extension &&
            suspect.task.subscription == open.task->subscription && suspect.task.message.id == open.task->message.id)
            return &suspect;
    return nullptr;
}

void AddSuspect(CrashNotes *notes, const Open &open, bool guilty, Microseconds now) {
    Suspect *place = FindSuspect(notes, open);
    if (!place) {
        // A free place, else that of the one longest ago: its database may be gone.
        const auto age = [](const Suspect &s) { return s.database == 0 ? 0 : s.crashed_at; };
        place = &*std::min_element(std::begin(notes->suspects), std::end(notes->suspects),
                                   [&age](const Suspect &a, const Suspect &b) { return age(a) < age(b); });
        place->database = 0;
    }
    const std::int32_t before = place->database == 0 ? 0 : place->crashes;
    *place = {open.note->database, open.note->extension, *open.task, before + 1, open.note->pid, now, guilty, 0};
}

// Once for each subscription, however many of its tasks were running.
void NoteOffence(CrashNotes *notes, const Open &open, Microseconds now) {
    Offender *place = &notes->offenders[0];
    for (Offender &offender : notes->offenders) {
        if (offender.database == open.note->database && offender.extension == open.note->extension &&
            offender.subscription == open.task->subscription) {
            if (offender.crashed_at == now) return;
            const bool forgiven = now - offender.crashed_at > kForgiven;
            offender.crashes = forgiven ? 1 : offender.crashes + 1;
            offender.crashed_at = now;
            return;
        }
        // A free place, else that of the one longest ago.
        const auto age = [](const Offender &o) { return o.database == 0 ? 0 : o.crashed_at; };
        if (age(offender) < age(*place)) place = &offender;
    }
    *place = {open.note->database, open.note->extension, open.task->subscription, 1, now};
}

bool OffendedLately(const CrashNotes &notes, const Open &open, Microseconds now) {
    return std::any_of(std::begin(notes.offenders), std::end(notes.offenders), [&](const Offender &offender) {
        return offender.database == open.note->database && offender.extension == open.note->extension &&
               offender.subscription == open.task->subscription && now - offender.crashed_at <= kForgiven;
    });
}

}  // namespace

int JudgeCrash(CrashNotes *notes, Microseconds now) noexcept {
    int count = 0;
    int suspected = 0;
    int certain = 0;
    ForEachOpen(*notes, [&](const Open &open) {
        ++count;
        suspected += FindSuspect(notes, open) ? 1 : 0;
        certain += open.note->doubtful ? 0 : 1;
    });
    // Those that were suspected before, else those that ended by themselves, if there are any.
    const auto is_blamed = [&](const Open &open) {
        if (suspected > 0) return FindSuspect(notes, open) != nullptr;
        return certain == 0 || !open.note->doubtful;
    };
    bool known = suspected > 0;
    if (!known && (certain == 1 || (certain == 0 && count == 1)))
        ForEachOpen(*notes, [&](const Open &open) {
            known = known || (is_blamed(open) && (!open.note->doubtful || OffendedLately(*notes, open, now)));
        });
    ForEachOpen(*notes, [&](const Open &open) {
        if (!is_blamed(open)) return;
        AddSuspect(notes, open, known, now);
        NoteOffence(notes, open, now);
    });
    for (RunningNote &note : notes->running) {
        note.begun = 0;
        note.committing = false;
        note.doubtful = false;
    }
    return count;
}

Microseconds RestAfter(std::int32_t crashes) {
    const int doublings = std::clamp(crashes - 1, 0, 10);
    return std::min(kFirstRest << doublings, kLongestRest);
}

}  // namespace herald::core
