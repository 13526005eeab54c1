// See pinned_settings.hpp. The server applies the defaults while it connects the process and can't be told not to, but a
// setting of a stronger source stays. Only the most dangerous ones are pinned that way, as a pinned setting
// doesn't follow the configuration file any more.

#include "pg/pinned_settings.hpp"

#include "pg/compat.hpp"

extern "C" {
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
}

namespace herald::pg {

namespace {

struct Pinned {
    const char *name;
    const char *value;
};

constexpr Pinned kPinned[] = {
    {"search_path", kSafeSearchPath},
    // A role's own setting of "role" would make the session somebody else.
    {"role", "none"},
    {"session_replication_role", "origin"},
    {"default_transaction_isolation", "read committed"},
    {"default_transaction_read_only", "off"},
    {"default_transaction_deferrable", "off"},
    {"statement_timeout", "0"},
    {"idle_in_transaction_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
    {"transaction_timeout", "0"},
#endif
    // None of our statements waits for a user's lock; one that is forgotten does so for this long.
    {"lock_timeout", "2s"},
    // The process that looks for a deadlock is the one whose statement is cancelled. So ours looks first.
    {"deadlock_timeout", "10ms"},
};

}  // namespace

struct KnownSetting {
    const config_generic *setting;
    const char *value;
};

struct ServerSettings {
    MemoryContext context;
    int count;
    KnownSetting *known;
};

ServerSettings *PinSettings() {
    for (const Pinned &pinned : kPinned) SetConfigOption(pinned.name, pinned.value, PGC_SUSET, PGC_S_OVERRIDE);

    int count;
    config_generic **all = ListSettings(&count);
    MemoryContext context =
        AllocSetContextCreate(TopMemoryContext, "pg_herald server settings", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    auto *settings = static_cast<ServerSettings *>(palloc(sizeof(ServerSettings)));
    *settings = {context, 0, static_cast<KnownSetting *>(palloc(sizeof(KnownSetting) * static_cast<Size>(count)))};
    for (int i = 0; i < count; i++) {
        if (all[i]->context != PGC_USERSET && all[i]->context != PGC_SUSET) continue;
        const char *value = GetConfigOption(all[i]->name, true, false);
        settings->known[settings->count++] = {all[i], pstrdup(value == nullptr ? "" : value)};
    }
    MemoryContextSwitchTo(caller);
    return settings;
}

void DropDefaults(ServerSettings *settings) {
    for (int i = 0; i < settings->count; i++) {
        const config_generic *setting = settings->known[i].setting;
        if (setting->source < PGC_S_GLOBAL || setting->source > PGC_S_DATABASE_USER) continue;
        // Which the server sets from a name, and so only in a transaction.
        if (std::strcmp(setting->name, "session_authorization") == 0) continue;
        SetConfigOption(setting->name, settings->known[i].value, PGC_SUSET, PGC_S_OVERRIDE);
    }
    if (GetSessionUserId() != BOOTSTRAP_SUPERUSERID) SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
    MemoryContextDelete(settings->context);
}

}  // namespace herald::pg
