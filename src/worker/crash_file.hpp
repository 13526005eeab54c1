// The notes that workers leave of the task they run (core/crash_notes.hpp), in a file that is mapped into
// memory: it outlives the processes, and the postmaster, but costs a task no more than a store. It is never
// flushed: after a crash of the machine whatever is found in it is a hint, checked against the tables.

#pragma once

#include "pg/pg.hpp"

#include "core/crash_notes.hpp"
#include "registry/slots.hpp"

namespace herald {

// At the start of the server, and of the start after a crash: maps the file and judges what is in it.
void InitCrashFile();

// The worker of slot `index`, at its start: where it is told to end because another process has crashed
// (SIGQUIT), it takes its note back.
void OpenNote(int index);
// Around a batch. Begun: that many tasks have begun, the last of them runs. Commit: none runs any more.
void NoteBatch(const WorkerSlotShared &slot);
void NoteBegun(uint32 begun);
void NoteCommit();
void NoteEnd();

// The places of suspects (core::kSuspects) and offenders (core::kOffenders). Once the server has started,
// those of a database are written by its dispatcher only; others may look.
core::Suspect *CrashSuspects();
core::Offender *CrashOffenders();

}  // namespace herald
