// herald.replay, replay_all and discard_dead_letters.

#include "pg/pg.hpp"

#include "failure/dead_letters.hpp"
#include "pg/guard.hpp"

using namespace herald;

HERALD_FUNCTION(replay) { PG_RETURN_BOOL(ReplayDeadLetter(PG_GETARG_INT64(0))); }

HERALD_FUNCTION(replay_all) {
    PG_RETURN_INT64(ReplayDeadLetters(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

HERALD_FUNCTION(discard_dead_letters) {
    if (PG_ARGISNULL(0)) PG_RETURN_NULL();
    TimestampTz before = PG_ARGISNULL(1) ? 0 : PG_GETARG_TIMESTAMPTZ(1);
    PG_RETURN_INT64(DiscardDeadLetters(text_to_cstring(PG_GETARG_TEXT_PP(0)),
                                       PG_ARGISNULL(1) ? nullptr : &before));
}
