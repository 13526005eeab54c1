// See preload.hpp.

#include "pg/preload.hpp"

namespace herald::pg {

namespace {

bool preloaded = false;

constexpr char kHint[] = "Add pg_herald to shared_preload_libraries in postgresql.conf and restart the server.";

}  // namespace

void NotePreloaded() { preloaded = true; }

bool Preloaded() { return preloaded; }

void RequirePreloaded() {
    if (preloaded) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("pg_herald must be loaded by shared_preload_libraries"), errhint("%s", kHint)));
}

void WarnOfLateLoad() {
    ereport(WARNING,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("pg_herald is not loaded by shared_preload_libraries"),
             errdetail("In this session change feeds publish nothing, and its functions fail."), errhint("%s", kHint)));
}

}  // namespace herald::pg
