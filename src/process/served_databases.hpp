// Whether this database is served now, asked by the launcher and by the processes it started.

#pragma once

#include "registry/database.hpp"

namespace herald {

// True where herald.databases names the database (or is empty).
bool DatabaseSelected(const char *name);

// A WARNING, once for each value, where herald.databases has more names than databases that can be served.
void WarnOfUnknownNames(int selected);

// True where the extension that EnterDatabase found is still there. In a transaction.
bool ExtensionServed();
// Its oid: created anew, it has another one, and all ids start again.
Oid ServedExtension();

// What a dispatcher or announcer does first: finds (or makes) its database's entry, and ends the process
// where there is nothing to serve, or somebody serves it already.
DatabaseShared *EnterDatabase(Consumer consumer);

// False where the process is to leave: disabled, deselected, the extension is gone, somebody needs the database
// without us, or other databases are to have its place.
bool DatabaseServed(DatabaseShared *database);

}  // namespace herald
