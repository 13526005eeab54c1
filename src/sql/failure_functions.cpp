// herald.replay, replay_all and discard_dead_letters.

#include "pg/pg.hpp"

#include "failure/dead_letters.hpp"
#include "pg/arguments.hpp"
#include "pg/guard.hpp"

using namespace herald;

HERALD_FUNCTION(replay) {
    if (PG_ARGISNULL(0)) pg::ReportNull("dead_letter_id");
    PG_RETURN_BOOL(ReplayDeadLetter(PG_GETARG_INT64(0)));
}

HERALD_FUNCTION(replay_all) { PG_RETURN_INT64(ReplayDeadLetters(pg::RequiredText(fcinfo, 0, "subscription"))); }

HERALD_FUNCTION(discard_dead_letters) {
    const char *subscription = pg::RequiredText(fcinfo, 0, "subscription");
    TimestampTz before = PG_ARGISNULL(1) ? 0 : PG_GETARG_TIMESTAMPTZ(1);
    PG_RETURN_INT64(DiscardDeadLetters(subscription, PG_ARGISNULL(1) ? nullptr : &before));
}
