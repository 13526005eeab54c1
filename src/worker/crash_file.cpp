// See crash_file.hpp. The file lies where base backups leave it out: the notes of one server say nothing
// about another.

#include "worker/crash_file.hpp"

#include "pg/compat.hpp"

extern "C" {
#include "access/parallel.h"
#include "access/xlog.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "utils/timestamp.h"
}

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace herald {

namespace {

constexpr char kFile[] = PG_STAT_TMP_DIR "/pg_herald.running";
constexpr uint64 kMagic = 0x31'6873'6172'6367;  // changes with the layout, as the size does

struct CrashFile {
    uint64 magic;
    uint64 size;
    uint64 system_identifier;
    core::CrashNotes notes;
};

static_assert(core::kNotes == kMaxWorkerSlots);
static_assert(std::atomic<uint32>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

// Of the postmaster, inherited by all.
CrashFile *mapped = nullptr;
// Of a worker: its own note.
core::RunningNote *own_note = nullptr;

bool IsOurs(const CrashFile &file) {
    return file.magic == kMagic && file.size == sizeof(CrashFile) && file.system_identifier == GetSystemIdentifier();
}

// The whole file is allocated: a page of a mapping that finds no room later would end the process.
int OpenFile() {
    const int fd = open(kFile, O_RDWR | O_CREAT | O_CLOEXEC, pg_file_create_mode);
    if (fd < 0) return -1;
    struct stat status;
    if (fstat(fd, &status) == 0 && (status.st_size == sizeof(CrashFile) || ftruncate(fd, 0) == 0) &&
        (errno = posix_fallocate(fd, 0, sizeof(CrashFile))) == 0)
        return fd;
    const int problem = errno;
    close(fd);
    errno = problem;
    return -1;
}

// Without a file the notes still outlive the processes that a crash ends, but not the postmaster.
void *Map() {
    const int protection = PROT_READ | PROT_WRITE;
    const int fd = OpenFile();
    if (fd >= 0) {
        void *memory = mmap(nullptr, sizeof(CrashFile), protection, MAP_SHARED, fd, 0);
        const int problem = errno;
        close(fd);
        if (memory != MAP_FAILED) return memory;
        errno = problem;
    }
    ereport(LOG, (errcode_for_file_access(), errmsg("could not map file \"%s\": %m", kFile),
                  errdetail("A handler that brings down the whole server will not be recognized.")));
    void *memory = mmap(nullptr, sizeof(CrashFile), protection, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not map memory: %m")));
    return memory;
}

void LogSuspects(TimestampTz now) {
    for (const core::Suspect &suspect : mapped->notes.suspects) {
        if (suspect.database == InvalidOid || suspect.crashed_at != now) continue;
        ereport(LOG, (errcode(ERRCODE_CRASH_SHUTDOWN),
                      errmsg(suspect.guilty ? "a task's handler was running in the process that crashed the server"
                                            : "a task's handler was running when the server crashed"),
                      errdetail("Database %u, subscription %d, message " INT64_FORMAT ", process %d.", suspect.database,
                                suspect.task.subscription, suspect.task.message.id, suspect.pid)));
    }
}

// Only looks at memory, stores to it, and _exit: all that a signal handler may do.
void QuitInnocent(SIGNAL_ARGS) {
    if (own_note != nullptr) {
        // A parallel worker of its query may be what crashed.
        if (ParallelContextActive())
            own_note->doubtful = true;
        else
            own_note->begun = 0;
    }
    SignalHandlerForCrashExit(HERALD_SIGNAL_ARGUMENTS);
}

}  // namespace

void InitCrashFile() {
    if (IsUnderPostmaster) return;
    if (mapped == nullptr) mapped = static_cast<CrashFile *>(Map());
    if (!IsOurs(*mapped)) {
        std::memset(static_cast<void *>(mapped), 0, sizeof(CrashFile));
        mapped->magic = kMagic;
        mapped->size = sizeof(CrashFile);
        mapped->system_identifier = GetSystemIdentifier();
    }
    const TimestampTz now = GetCurrentTimestamp();
    if (core::JudgeCrash(&mapped->notes, now) > 0) LogSuspects(now);
}

void OpenNote(int index) {
    own_note = &mapped->notes.running[index];
    own_note->begun = 0;
    own_note->pid = MyProcPid;
    pqsignal(SIGQUIT, QuitInnocent);
}

void NoteBatch(const WorkerSlotShared &slot) {
    own_note->database = slot.database;
    own_note->extension = slot.extension;
    own_note->committing = false;
    const uint32 end = ProgressOf(&slot).end;
    for (uint32 i = 0; i < end; i++) own_note->tasks[i] = slot.tasks[i].task;
}

void NoteBegun(uint32 begun) { own_note->begun.store(begun, std::memory_order_release); }

void NoteCommit() { own_note->committing.store(true, std::memory_order_release); }

void NoteEnd() { own_note->begun.store(0, std::memory_order_release); }

core::Suspect *CrashSuspects() { return mapped->notes.suspects; }

core::Offender *CrashOffenders() { return mapped->notes.offenders; }

}  // namespace herald
