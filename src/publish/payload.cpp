// See payload.hpp.

#include "publish/payload.hpp"

#include "stats/channel_counters.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

namespace {

// The parser is at fault only for what is in the text; out of memory or a cancel are not the payload's.
bool BlamesPayload(int sqlstate) {
    return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_DATA_EXCEPTION ||
           sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED || sqlstate == ERRCODE_STATEMENT_TOO_COMPLEX;
}

}  // namespace

Datum ParsePayload(const Channel &channel, text *payload) {
    MemoryContext context = CurrentMemoryContext;
    char *json = text_to_cstring(payload);
    volatile Datum result = 0;
    ErrorData *volatile error = nullptr;

    PG_TRY();
    {
        result = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        if (!BlamesPayload(error->sqlerrcode)) PG_RE_THROW();
        FlushErrorState();
    }
    PG_END_TRY();

    // Not a swallowed error: another one takes its place. The parser's context line is left out, as it
    // quotes the payload.
    if (error != nullptr) {
        CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
        ereport(ERROR, (errcode(error->sqlerrcode),
                        errmsg("payload for channel \"%s\" is not valid JSON", channel.name),
                        errdetail("%s", error->detail != nullptr ? error->detail : error->message),
                        errhint("A text payload must be JSON; to_jsonb() makes JSON of any value.")));
    }
    pfree(json);
    return result;
}

}  // namespace herald
