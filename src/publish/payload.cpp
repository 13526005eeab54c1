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
    return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_DATA_EXCEPTION || sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
           sqlstate == ERRCODE_STATEMENT_TOO_COMPLEX;
}

// The jsonb value, or NULL and the parser's error.
Datum Parse(text *value, ErrorData **fault) {
    MemoryContext context = CurrentMemoryContext;
    char *json = text_to_cstring(value);
    volatile Datum result = 0;
    ErrorData *volatile error = nullptr;

    PG_TRY();
    { result = DirectFunctionCall1(jsonb_in, CStringGetDatum(json)); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        if (!BlamesPayload(error->sqlerrcode)) PG_RE_THROW();
        FlushErrorState();
    }
    PG_END_TRY();
    pfree(json);
    *fault = error;
    return result;
}

// Why, as the parser has it. Not a swallowed error: another one takes its place. The parser's context line is
// left out, as it quotes the value.
const char *Reason(const ErrorData *fault) { return fault->detail != nullptr ? fault->detail : fault->message; }

}  // namespace

Datum ParsePayload(const Channel &channel, text *payload, int element) {
    ErrorData *fault;
    Datum result = Parse(payload, &fault);
    if (fault == nullptr) return result;
    CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    ereport(ERROR, (errcode(fault->sqlerrcode),
                    element == 0 ? errmsg("payload for channel \"%s\" is not valid JSON", channel.name)
                                 : errmsg("payload %d for channel \"%s\" is not valid JSON", element, channel.name),
                    errdetail("%s", Reason(fault)),
                    errhint("A text payload must be JSON; to_jsonb() makes JSON of any value.")));
    pg_unreachable();
}

Datum ParseHeaders(const Channel &channel, text *headers, int element) {
    ErrorData *fault;
    Datum result = Parse(headers, &fault);
    if (fault == nullptr) return result;
    CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    ereport(ERROR,
            (errcode(fault->sqlerrcode),
             element == 0 ? errmsg("headers of a message to channel \"%s\" are not valid JSON", channel.name)
                          : errmsg("headers of message %d to channel \"%s\" are not valid JSON", element, channel.name),
             errdetail("%s", Reason(fault))));
    pg_unreachable();
}

}  // namespace herald
