// See identity.hpp.

#include "pg/identity.hpp"

#include "pg/pinned_settings.hpp"

extern "C" {
#include "catalog/pg_authid.h"
#include "utils/guc.h"
}

namespace herald::pg {

Identity BecomeOwner() {
    Identity caller;
    GetUserIdAndSecContext(&caller.user, &caller.security_context);
    caller.guc_level = NewGUCNestLevel();
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
                           caller.security_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    // Set after the switch, as superuser: that can't fail for lack of a privilege.
    (void)set_config_option("search_path", kSafeSearchPath, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                            false);
    return caller;
}

void BecomeCaller(const Identity &caller) {
    AtEOXact_GUC(false, caller.guc_level);
    SetUserIdAndSecContext(caller.user, caller.security_context);
}

}  // namespace herald::pg
