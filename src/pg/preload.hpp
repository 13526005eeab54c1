// Whether the server has loaded the library at its start. A server that has lost the setting loads it when a function of the
// extension is called for the first time in a session: then nothing works but what must not get in the way of others.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

void NotePreloaded();
bool Preloaded();

// 55000 where it was not. WARNING: the same, for who goes on.
void RequirePreloaded();
void WarnOfLateLoad();

}  // namespace herald::pg
