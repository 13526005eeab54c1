// SQL entry point of the ids of our tables, for the defaults of their columns.

#include "pg/guard.hpp"
#include "pg/sequence.hpp"

extern "C" {
#include "miscadmin.h"
}

using namespace herald;

// herald.next_id(sequence regclass) -> bigint
HERALD_FUNCTION(next_id) {
    const Oid sequence = PG_GETARG_OID(0);
    if (!pg::OwnsRelation(sequence, GetUserId()))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("must be owner of sequence \"%s\"", get_rel_name(sequence))));
    PG_RETURN_INT64(pg::DrawIds(sequence, 1));
}
