// herald.enable_change_feed, herald.disable_change_feed and what the view herald.change_feeds shows.

#include "pg/pg.hpp"

#include "channel/channel.hpp"
#include "feed/feed_admin.hpp"
#include "feed/feed_publish.hpp"
#include "pg/arguments.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
}

using namespace herald;

// herald.enable_change_feed(target regclass, channel text, message text, columns text[], operations text[]) -> void
HERALD_FUNCTION(enable_change_feed) {
    if (PG_ARGISNULL(0)) pg::ReportNull("target");
    FeedOptions options{};
    options.channel = ChannelNameArgument(fcinfo, 1);
    options.message = pg::RequiredText(fcinfo, 2, "message");
    options.columns = PG_ARGISNULL(3) ? static_cast<Datum>(0) : PointerGetDatum(PG_GETARG_ARRAYTYPE_P(3));
    if (PG_ARGISNULL(4)) pg::ReportNull("operations");
    options.operations = PointerGetDatum(PG_GETARG_ARRAYTYPE_P(4));
    EnableFeed(PG_GETARG_OID(0), options);
    PG_RETURN_VOID();
}

// herald.disable_change_feed(target regclass, channel text) -> void
HERALD_FUNCTION(disable_change_feed) {
    if (PG_ARGISNULL(0)) pg::ReportNull("target");
    DisableFeed(PG_GETARG_OID(0), ChannelNameArgument(fcinfo, 1));
    PG_RETURN_VOID();
}

// herald_internal.feed_problem(feed_id integer) -> text
HERALD_FUNCTION(feed_problem) {
    const Feed *feed = FindFeed(PG_GETARG_INT32(0));
    // Before a lock on anything of the table's is taken.
    if (feed == nullptr || !MaySeeFeed(*feed)) PG_RETURN_NULL();
    if (get_rel_name(feed->relation) == nullptr) PG_RETURN_TEXT_P(cstring_to_text("the table was dropped"));
    const char *problem = FindFeedProblem(*feed);
    if (problem == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(problem));
}
