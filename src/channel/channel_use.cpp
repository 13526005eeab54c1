// See channel_use.hpp.

#include "channel/channel_use.hpp"

#include "pg/roles.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "catalog/pg_database.h"
#include "utils/acl.h"
#include "utils/syscache.h"
}

namespace herald {

namespace {

constexpr char kLocksChannel[] = "locks";  // the default of herald.try_lock(), see the script

}  // namespace

bool IsUsedByOthers(const char *name) {
    if (pg::OwnsDatabase(MyDatabaseId, GetUserId())) return false;
    if (std::strcmp(name, kLocksChannel) == 0) return true;
    Oid users[kChannelUsers];
    if (!ReadChannelUsers(MyDatabaseId, name, users)) return false;
    for (Oid user : users) {
        if (!OidIsValid(user)) return false;
        // A role that was dropped publishes no more.
        if (SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(user)) && !pg::HasRightsOf(GetUserId(), user)) return true;
    }
    // There may be more than were noted.
    return true;
}

void RequireUnusedByOthers(const char *name) {
    if (!IsUsedByOthers(name)) return;
    const bool is_locks = std::strcmp(name, kLocksChannel) == 0;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("permission denied to declare channel \"%s\": others use it", name),
                    is_locks ? errdetail("herald.try_lock() announces on it for everybody.")
                             : errdetail("Other roles published to it within the last day."),
                    errhint("The owner of the database \"%s\" may declare it, grant on it, and give it to another "
                            "role with herald.alter_channel().",
                            GetUserNameFromId(OwnerOfDatabase(), false))));
}

Oid OwnerOfDatabase() {
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for database %u", MyDatabaseId);
    const Oid owner = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple))->datdba;
    ReleaseSysCache(tuple);
    return owner;
}

}  // namespace herald
