// The rows of herald.status() about the server as a whole.

#include "pg/pg.hpp"

#include "pg/as_owner.hpp"
#include "pg/spi.hpp"
#include "settings.hpp"
#include "sql/status_rows.hpp"
#include "process/served_databases.hpp"

extern "C" {
#include "access/xlog.h"
#include "commands/dbcommands.h"
}

namespace herald {

namespace {

const char *OnOff(bool value) { return value ? "on" : "off"; }

const char *ExtensionVersion() {
    const char *version = "none";
    MemoryContext context = CurrentMemoryContext;
    pg::AsOwner([&] {
        if (pg::SpiRun("SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pg_herald'") > 0)
            version = MemoryContextStrdup(context, pg::SpiText(0, 1));
    });
    return version;
}

}  // namespace

void ReportServer(FunctionCallInfo fcinfo) {
    const bool preloaded = process_shared_preload_libraries_done;
    Report(fcinfo, "preloaded", preloaded, preloaded ? "yes" : "no",
           "Add pg_herald to shared_preload_libraries and restart the server.");
    Report(fcinfo, "enabled", settings::enabled, OnOff(settings::enabled),
           "Turn on herald.enabled and reload the configuration.");
    const bool selected = DatabaseSelected(get_database_name(MyDatabaseId));
    Report(fcinfo, "database", selected, selected ? "selected" : "not selected",
           "Add this database to herald.databases, or empty that setting.");
    const bool standby = RecoveryInProgress();
    Report(fcinfo, "recovery", !standby, standby ? "standby" : "primary", "Handlers run on the primary server only.");
    const char *extension = ExtensionVersion();
    const bool same = std::strcmp(extension, PG_HERALD_VERSION) == 0;
    Report(fcinfo, "version", same, psprintf("library %s, extension %s", PG_HERALD_VERSION, extension),
           "Run ALTER EXTENSION pg_herald UPDATE; if the library is the older one, restart the "
           "server.");
}

}  // namespace herald
