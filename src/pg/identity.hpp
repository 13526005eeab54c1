// Acting as the owner of the extension for a fixed statement of ours, and back. The search_path is
// pinned for the same time, so that an operator in our SQL can't be one that the caller planted.
//
//     pg::Identity caller = pg::BecomeOwner();
//     ... SPI with fixed, parameterised SQL ...
//     pg::BecomeCaller(caller);
//
// No destructor does this: an ERROR between the two skips destructors, and the abort of the
// (sub)transaction restores both by itself.

#pragma once

#include "pg/pg.hpp"

namespace herald::pg {

struct Identity {
    Oid user;
    int security_context;
    int guc_level;
};

Identity BecomeOwner();
void BecomeCaller(const Identity &caller);

}  // namespace herald::pg
