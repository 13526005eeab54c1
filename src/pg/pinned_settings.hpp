// The settings of a process that acts with a superuser's rights. A database's owner, or whoever may ALTER a role, chooses
// defaults for the sessions there; in such a process they would decide which operators our statements mean, how long
// they may take, and who it is. So none of them takes effect in it: it has the settings of the server.
//
//     ServerSettings *settings = pg::PinSettings();   // before the connection
//     BackgroundWorkerInitializeConnection...
//     pg::DropDefaults(settings);                     // before the first statement

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

// The only search_path under which a statement of ours is run.
inline constexpr char kSafeSearchPath[] = "pg_catalog, pg_temp";

struct ServerSettings;

// Sets what matters most to fixed values, which nothing changes any more, and notes all others.
ServerSettings *PinSettings();

// Sets back what the defaults of database and role have changed since, and forgets the notes.
void DropDefaults(ServerSettings *settings);

}  // namespace herald::pg
