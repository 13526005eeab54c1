// See served_databases.hpp.

#include "process/served_databases.hpp"

#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/process.hpp"
#include "settings.hpp"

extern "C" {
#include "commands/dbcommands.h"
#include "storage/ipc.h"
#include "utils/varlena.h"
}

namespace herald {

namespace {
char own_database_name[NAMEDATALEN];
Oid served_extension = InvalidOid;
}  // namespace

void WarnOfUnknownNames(int selected) {
    static char warned[1024];
    List *names = NIL;
    const char *value = settings::databases == nullptr ? "" : settings::databases;
    char *copy = pstrdup(value);
    (void)SplitGUCList(copy, ',', &names);
    const bool unknown = list_length(names) > selected;
    if (unknown && std::strncmp(warned, value, sizeof(warned) - 1) != 0)
        ereport(WARNING,
                (errcode(ERRCODE_UNDEFINED_DATABASE),
                 errmsg("herald.databases names databases that do not exist or are templates"),
                 errdetail("It is \"%s\"; %d of these %d names are served.", value, selected, list_length(names)),
                 errhint("Names count as they are written, upper and lower case are different.")));
    pg::CopyString(warned, unknown ? value : "", sizeof(warned));
    list_free(names);
    pfree(copy);
}

bool DatabaseSelected(const char *name) {
    if (settings::databases == nullptr || settings::databases[0] == '\0') return true;
    List *names = NIL;
    char *copy = pstrdup(settings::databases);
    bool selected = false;
    // The setting's check lets no malformed list in.
    if (SplitGUCList(copy, ',', &names)) {
        ListCell *cell;
        foreach (cell, names) selected = selected || std::strcmp(static_cast<const char *>(lfirst(cell)), name) == 0;
    }
    list_free(names);
    pfree(copy);
    return selected;
}

bool ExtensionServed() { return OidIsValid(served_extension) && pg::CommittedExtension() == served_extension; }

Oid ServedExtension() { return served_extension; }

DatabaseShared *EnterDatabase(Consumer consumer) {
    DatabaseShared *database = FindDatabase(MyDatabaseId);
    uint32 changes = database == nullptr ? 0 : pg_atomic_read_u32(&database->extension.changes);
    pg::BeginTransaction();
    served_extension = pg::CommittedExtension();
    bool served = OidIsValid(served_extension);
    pg::CopyString(own_database_name, get_database_name(MyDatabaseId), sizeof(own_database_name));
    pg::CommitTransaction();

    database = served ? FindOrCreateDatabase(MyDatabaseId) : FindDatabase(MyDatabaseId);
    if (database == nullptr) proc_exit(0);
    // Announcements left behind are sent even where nothing else is to be done.
    const bool leftovers = consumer == Consumer::kAnnouncer &&
                           pg_atomic_read_u32(&database->processes.leave_requests) == 0 &&
                           OutboxLength(database, Consumer::kAnnouncer) > 0;
    if (served)
        pg_atomic_write_u32(&database->extension.presence, static_cast<uint32>(Presence::kPresent));
    else
        NoteAbsence(database, changes);
    if (!(served && DatabaseServed(database)) && !leftovers) {
        // A look is no failure.
        pg_atomic_write_u32(&database->processes.consumers[static_cast<int>(consumer)].left, 1);
        proc_exit(0);
    }
    if (!BecomeConsumer(database, consumer)) proc_exit(0);
    WakeLauncher();  // which starts the other one
    return database;
}

bool DatabaseServed(DatabaseShared *database) {
    return settings::enabled && pg_atomic_read_u32(&database->processes.leave_requests) == 0 &&
           database->database == MyDatabaseId && pg_atomic_read_u32(&database->processes.admitted) != 0 &&
           pg_atomic_read_u32(&database->extension.presence) != static_cast<uint32>(Presence::kAbsent) &&
           DatabaseSelected(own_database_name);
}

}  // namespace herald
