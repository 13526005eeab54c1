// The launcher: one per server. It finds the databases that have the extension, keeps a dispatcher and an
// announcer running in each, and cleans up after databases that are gone.
//
// A database is looked at by starting a dispatcher in it, one at a time: at start, when it appears, and
// when CREATE EXTENSION commits there. A dispatcher that finds nothing says so and ends. Where the extension is,
// places.cpp decides who gets places of max_worker_processes.
//
// Whoever connects to a database waits for a command that has locked it, such as a RENAME in a transaction that is
// open or prepared. Nothing is started where that would be so.

#include "outbox/outbox.hpp"
#include "pg/guard.hpp"
#include "pg/process.hpp"
#include "settings.hpp"
#include "stats/subscription_counters.hpp"
#include "process/places.hpp"
#include "process/processes.hpp"
#include "process/served_databases.hpp"
#include "registry/slots.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"
}

#include <map>
#include <set>
#include <vector>

namespace herald {

namespace {

constexpr TimestampTz kFirstDelay = USECS_PER_SEC / 4;
constexpr TimestampTz kLongestDelay = 60 * USECS_PER_SEC;
// A process that lived this long has recovered: the next failure is a first one again.
constexpr TimestampTz kHealthy = 30 * USECS_PER_SEC;
// A look that takes longer than this keeps no other one waiting.
constexpr TimestampTz kLongLook = 5 * USECS_PER_SEC;

class Launcher {
public:
    [[noreturn]] void Run();

private:
    struct Process {
        BackgroundWorkerHandle *handle = nullptr;
        TimestampTz started = 0;
        TimestampTz next_start = 0;
        int failures = 0;
    };
    struct Served {
        bool seen = false;    // in pg_database at the last look
        bool probed = false;  // a dispatcher has looked (or is looking) for the extension
        Process processes[kConsumers];
    };

    void ListServed();
    void ForgetGone();
    void Look(Oid oid, Served *served, TimestampTz now);
    void TendAll(TimestampTz now);
    bool IsLocked(Oid oid, TimestampTz now);
    void TendProcess(Oid oid, Consumer consumer, Process *process, TimestampTz now);
    void TendLeftovers(TimestampTz now);
    bool Ended(Process *process, bool may_fail, TimestampTz now);
    void FreeLostSlots();
    void NoteTime(TimestampTz time);

    std::map<Oid, Served> databases_;
    std::map<Oid, Process> leftovers_;  // announcers of databases that are not served
    // All databases at the last look. Read from the table itself: whoever wakes us from a commit has not
    // sent the invalidations of our caches yet.
    std::set<Oid> existing_;
    int probing_ = 0;  // looks under way
    Places places_;
    TimestampTz next_time_ = DT_NOEND;
};

void Launcher::NoteTime(TimestampTz time) {
    if (time < next_time_) next_time_ = time;
}

// Reads pg_database. Templates are left alone: a process in one would block CREATE DATABASE.
void Launcher::ListServed() {
    for (auto &[oid, served] : databases_) served.seen = false;
    existing_.clear();
    int selected = 0;

    pg::BeginTransaction();
    Relation relation = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc scan = table_beginscan_catalog(relation, 0, nullptr);
    HeapTuple tuple;
    while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection))) {
        auto row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
        existing_.insert(row->oid);
        if (!row->datallowconn || row->datistemplate) continue;
        if (!DatabaseSelected(NameStr(row->datname))) continue;
        databases_[row->oid].seen = true;
        selected++;
    }
    table_endscan(scan);
    table_close(relation, AccessShareLock);
    pg::CommitTransaction();
    WarnOfUnknownNames(selected);
}

// Databases that were dropped, or are no longer selected: their processes leave by themselves.
void Launcher::ForgetGone() {
    for (auto entry = databases_.begin(); entry != databases_.end();) {
        if (entry->second.seen) {
            ++entry;
            continue;
        }
        for (Process &process : entry->second.processes)
            if (process.handle != nullptr) pfree(process.handle);
        DatabaseShared *database = FindDatabase(entry->first);
        if (database != nullptr) pg_atomic_write_u32(&database->processes.admitted, 0);
        entry = databases_.erase(entry);
    }
    // Entries in shared memory of databases that no longer exist at all.
    std::vector<Oid> known(kMaxDatabases);
    int count = ListDatabases(known.data(), kMaxDatabases);
    for (int i = 0; i < count; i++) {
        if (existing_.count(known[i]) > 0) continue;
        RemoveDatabaseStatistics(known[i]);
        ForgetDatabase(known[i]);
    }
}

// True where the process is not running. Notes when it may be started again.
bool Launcher::Ended(Process *process, bool may_fail, TimestampTz now) {
    if (process->handle == nullptr) return true;
    pid_t pid;
    if (GetBackgroundWorkerPid(process->handle, &pid) != BGWH_STOPPED) return false;
    pfree(process->handle);
    process->handle = nullptr;
    if (may_fail) {
        if (now - process->started > kHealthy) process->failures = 0;
        // The first time at once, then slower and slower.
        TimestampTz delay = process->failures == 0 ? 0 : kFirstDelay << Min(process->failures - 1, 10);
        process->next_start = now + Min(delay, kLongestDelay);
        process->failures++;
    }
    return true;
}

// True where a process that connects would have to wait. Another try comes soon: no lock tells its end.
bool Launcher::IsLocked(Oid oid, TimestampTz now) {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, oid, 0);
    pg::BeginTransaction();
    const bool locked = LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL;
    pg::CommitTransaction();
    if (locked) NoteTime(now + USECS_PER_SEC);
    return locked;
}

void Launcher::TendProcess(Oid oid, Consumer consumer, Process *process, TimestampTz now) {
    DatabaseShared *database = FindDatabase(oid);
    if (!Ended(process, true, now)) return;
    if (database != nullptr &&
        pg_atomic_exchange_u32(&database->processes.consumers[static_cast<int>(consumer)].left, 0) != 0) {
        process->failures = 0;
        process->next_start = 0;
    }
    if (now < process->next_start) {
        NoteTime(process->next_start);
        return;
    }
    if (IsLocked(oid, now)) return;
    process->handle = consumer == Consumer::kDispatcher ? StartDispatcher(oid) : StartAnnouncer(oid);
    process->started = now;
    if (process->handle == nullptr) {
        // A worker that idles has one.
        (void)EvictOneIdleWorker(InvalidOid, InvalidOid, false);
        process->next_start = now + USECS_PER_SEC;
        NoteTime(process->next_start);
        if (database != nullptr)
            pg_atomic_write_u32(&database->dispatcher.start_problem,
                                static_cast<uint32>(StartProblem::kNoWorkerProcess));
    }
}

// Whether the extension is there.
void Launcher::Look(Oid oid, Served *served, TimestampTz now) {
    DatabaseShared *database = FindDatabase(oid);
    Process *dispatcher = &served->processes[static_cast<int>(Consumer::kDispatcher)];
    auto presence = database == nullptr ? Presence::kUnknown
                                        : static_cast<Presence>(pg_atomic_read_u32(&database->extension.presence));

    if (database != nullptr && pg_atomic_read_u32(&database->processes.leave_requests) > 0) {
        NoteTime(now + USECS_PER_SEC);
        return;
    }
    if (presence == Presence::kPresent) return;
    bool looked = dispatcher->handle != nullptr;
    if (!Ended(dispatcher, false, now)) {
        if (now - dispatcher->started < kLongLook) {
            probing_++;
            NoteTime(dispatcher->started + kLongLook);
        }
        return;
    }
    // A look that has no result (a broken database) is not repeated in a tight loop.
    if (looked && database != nullptr) dispatcher->next_start = now + USECS_PER_SEC;
    // CREATE EXTENSION sets an entry's presence back to unknown, which asks for another look.
    if (presence == Presence::kAbsent || (database == nullptr && served->probed)) return;
    if (probing_ > 0) return;  // its end wakes us for the next one
    if (now < dispatcher->next_start) {
        NoteTime(dispatcher->next_start);
        return;
    }
    if (IsLocked(oid, now)) return;
    dispatcher->handle = StartDispatcher(oid);
    dispatcher->started = now;
    dispatcher->failures = 0;
    if (dispatcher->handle == nullptr) {
        (void)EvictOneIdleWorker(InvalidOid, InvalidOid, false);
        dispatcher->next_start = now + USECS_PER_SEC;
        NoteTime(dispatcher->next_start);
        return;
    }
    served->probed = true;
    probing_++;
}

void Launcher::TendAll(TimestampTz now) {
    std::vector<DatabaseShared *> present;
    for (auto &[oid, served] : databases_) {
        Look(oid, &served, now);
        DatabaseShared *database = FindDatabase(oid);
        if (database == nullptr) continue;
        if (pg_atomic_read_u32(&database->processes.leave_requests) == 0 &&
            pg_atomic_read_u32(&database->extension.presence) == static_cast<uint32>(Presence::kPresent))
            present.push_back(database);
        else
            pg_atomic_write_u32(&database->processes.admitted, 0);  // it waits for its places again
    }
    NoteTime(places_.Decide(present, now));
    for (DatabaseShared *database : present) {
        const Oid oid = database->database;
        const int needed =
            Min(ConsumersNeeded(database), static_cast<int>(pg_atomic_read_u32(&database->processes.admitted)));
        Process *processes = databases_[oid].processes;
        if (needed == 2 && !ConsumerRuns(database, Consumer::kDispatcher))
            TendProcess(oid, Consumer::kDispatcher, &processes[static_cast<int>(Consumer::kDispatcher)], now);
        // A dispatcher that only looks needs no company.
        const bool announces =
            IsWanted(database, Consumer::kAnnouncer) || !MayOnlyLook(database, Consumer::kDispatcher);
        if (needed > 0 && announces && !ConsumerRuns(database, Consumer::kAnnouncer))
            TendProcess(oid, Consumer::kAnnouncer, &processes[static_cast<int>(Consumer::kAnnouncer)], now);
    }
}

// Announcements that were left to an announcer, which then had to leave: another one sends them, even where
// nothing else is to be done.
void Launcher::TendLeftovers(TimestampTz now) {
    std::vector<Oid> known(kMaxDatabases);
    int count = ListDatabases(known.data(), kMaxDatabases);
    for (int i = 0; i < count; i++) {
        DatabaseShared *database = FindDatabase(known[i]);
        if (database == nullptr || existing_.count(known[i]) == 0 || ConsumerRuns(database, Consumer::kAnnouncer) ||
            OutboxLength(database, Consumer::kAnnouncer) == 0 ||
            pg_atomic_read_u32(&database->processes.leave_requests) > 0)
            continue;
        auto served = databases_.find(known[i]);
        if (settings::enabled && served != databases_.end() && served->second.seen &&
            pg_atomic_read_u32(&database->extension.presence) == static_cast<uint32>(Presence::kPresent) &&
            pg_atomic_read_u32(&database->processes.admitted) != 0)
            continue;
        TendProcess(known[i], Consumer::kAnnouncer, &leftovers_[known[i]], now);
    }
}

// Slots whose worker has died and whose database has no dispatcher to take note (any more).
void Launcher::FreeLostSlots() {
    for (int i = 0; i < WorkerSlotLimit(); i++) {
        WorkerSlotShared *slot = WorkerSlot(i);
        SlotWord word = WordOf(slot);
        if (word.state == SlotState::kFree) continue;
        DatabaseShared *database = FindDatabase(slot->database);
        if (database != nullptr &&
            pg_atomic_read_u32(&database->extension.presence) == static_cast<uint32>(Presence::kPresent))
            continue;
        bool no_process = pg_atomic_read_u32(&slot->pid) == 0;
        bool late = GetCurrentTimestamp() - slot->ready_at > kHealthy;
        if (word.state == SlotState::kGone || (word.state == SlotState::kReported && no_process) ||
            (word.state == SlotState::kStarting && no_process && late))
            (void)ChangeState(slot, word, SlotState::kFree);
    }
}

void Launcher::Run() {
    for (;;) {
        next_time_ = DT_NOEND;
        BeginLauncherTurn();
        ListServed();
        ForgetGone();
        FreeLostSlots();
        TimestampTz now = GetCurrentTimestamp();
        probing_ = 0;
        if (settings::enabled)
            TendAll(now);
        else
            ShowPlaces({0, 0, 0});
        TendLeftovers(now);
        now = GetCurrentTimestamp();
        long milliseconds = settings::sweep_interval * 1000L;
        if (next_time_ != DT_NOEND)
            milliseconds = Max(1L, Min(milliseconds, static_cast<long>((next_time_ - now) / 1000 + 1)));
        SleepAfterLauncherTurn(milliseconds);
    }
}

void LeaveLauncher(int, Datum) { SetLauncher(0, 0); }

}  // namespace

}  // namespace herald

void herald_launcher_main(Datum) {
    using namespace herald;
    pg::Guard([] {
        pg::InitProcess(pg::CancelSignal::kIgnored);
        // Shared catalogs only: connected to a database, it would block its DROP.
        pg::ConnectToDatabase(InvalidOid, InvalidOid);
        SetLauncher(pg::OwnProcNumber(), MyProcPid);
        on_shmem_exit(LeaveLauncher, static_cast<Datum>(0));
        pgstat_report_activity(STATE_IDLE, nullptr);
        // Never destroyed: it lives as long as the process.
        (new Launcher)->Run();
    });
}
