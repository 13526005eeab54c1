// SQL entry points of publishing.

#include "log/log_reader.hpp"
#include "pg/guard.hpp"
#include "pointer/pointer_store.hpp"
#include "publish/payload.hpp"
#include "publish/publish.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"
}

using namespace herald;

namespace {

void RefuseNullPayload(const Channel &channel) {
    CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                    errmsg("payload for channel \"%s\" is null", channel.name),
                    errhint("The JSON value null is written 'null'.")));
}

// A jsonb object, or 0 where the argument is NULL.
// `element`: its number in a batch, from 1; 0: there is only one.
Datum CheckHeaders(const Channel &channel, Datum value, bool is_null, int element) {
    if (is_null) return 0;
    Jsonb *headers = DatumGetJsonbP(value);
    if (!JB_ROOT_IS_OBJECT(headers))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        element == 0
                            ? errmsg("headers of a message to channel \"%s\" are not a JSON object",
                                     channel.name)
                            : errmsg("headers of message %d to channel \"%s\" are not a JSON object",
                                     element, channel.name)));
    return JsonbPGetDatum(headers);
}

// Arguments 2 and 3 of herald.publish, with a payload that is already jsonb.
Datum PublishWith(FunctionCallInfo fcinfo, const Channel &channel, Datum payload) {
    NewMessage message{};
    message.payload = payload;
    if (!PG_ARGISNULL(2)) message.key = PointerGetDatum(PG_GETARG_TEXT_PP(2));
    message.headers = CheckHeaders(channel, PG_GETARG_DATUM(3), PG_ARGISNULL(3), 0);
    int64 id = Publish(channel, message);
    if (id == 0) PG_RETURN_NULL();
    PG_RETURN_INT64(id);
}

const Channel &ChannelForPublish(FunctionCallInfo fcinfo, const char *function) {
    return RequirePublishable(ChannelNameArgument(fcinfo, 0), function);
}

// The elements of an optional array argument that must have `count` of them; NULL where it is NULL.
Datum *OptionalElements(FunctionCallInfo fcinfo, int argument, const char *name, Oid type, int count,
                        bool **nulls) {
    if (PG_ARGISNULL(argument)) return nullptr;
    Datum *elements;
    int found;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), type, -1, false, TYPALIGN_INT, &elements, nulls,
                      &found);
    if (found != count)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must have one element per payload", name),
                        errdetail("There are %d payloads and %d elements.", count, found),
                        errhint("An element may be NULL.")));
    return elements;
}

}  // namespace

// herald.publish(channel text, payload jsonb, key text, headers jsonb) -> bigint
HERALD_FUNCTION(publish) {
    const Channel &channel = ChannelForPublish(fcinfo, "herald.publish()");
    if (PG_ARGISNULL(1)) RefuseNullPayload(channel);
    return PublishWith(fcinfo, channel, JsonbPGetDatum(PG_GETARG_JSONB_P(1)));
}

// The same for json and text, which are stored alike.
HERALD_FUNCTION(publish_text) {
    const Channel &channel = ChannelForPublish(fcinfo, "herald.publish()");
    if (PG_ARGISNULL(1)) RefuseNullPayload(channel);
    return PublishWith(fcinfo, channel, ParsePayload(channel, PG_GETARG_TEXT_PP(1)));
}

// herald.publish_batch(channel text, payloads jsonb[], keys text[], headers jsonb[]) -> setof bigint
HERALD_FUNCTION(publish_batch) {
    const Channel &channel = ChannelForPublish(fcinfo, "herald.publish_batch()");
    Datum *payloads;
    bool *payload_nulls;
    bool *key_nulls = nullptr;
    bool *header_nulls = nullptr;
    int count;

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("payloads for channel \"%s\" are null", channel.name)));
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false, TYPALIGN_INT, &payloads,
                      &payload_nulls, &count);
    Datum *keys = OptionalElements(fcinfo, 2, "keys", TEXTOID, count, &key_nulls);
    Datum *headers = OptionalElements(fcinfo, 3, "headers", JSONBOID, count, &header_nulls);

    NewMessage *messages = static_cast<NewMessage *>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(NewMessage) * Max(static_cast<Size>(count), 1)));
    int64 *ids = static_cast<int64 *>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(static_cast<Size>(count), 1)));
    for (int i = 0; i < count; i++) {
        CHECK_FOR_INTERRUPTS();
        if (payload_nulls[i]) {
            CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                            errmsg("payload %d for channel \"%s\" is null", i + 1, channel.name),
                            errhint("The JSON value null is written 'null'.")));
        }
        messages[i].payload = JsonbPGetDatum(DatumGetJsonbP(payloads[i]));
        messages[i].key = keys == nullptr || key_nulls[i]
                              ? static_cast<Datum>(0)
                              : PointerGetDatum(DatumGetTextPP(keys[i]));
        messages[i].headers = headers == nullptr
                                  ? static_cast<Datum>(0)
                                  : CheckHeaders(channel, headers[i], header_nulls[i], i + 1);
    }
    PublishBatch(channel, messages, ids, count);
    for (int i = 0; i < count; i++) {
        Datum id = Int64GetDatum(ids[i]);
        bool not_stored = ids[i] == 0;
        tuplestore_putvalues(result->setResult, result->setDesc, &id, &not_stored);
    }
    return static_cast<Datum>(0);
}

// herald.notify(channel text, payload text) -> void
HERALD_FUNCTION(notify) {
    const char *name = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));
    const char *payload = PG_ARGISNULL(1) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(1));
    std::size_t length = std::strlen(name);

    if (length == 0 || length >= NAMEDATALEN)
        Async_Notify(name, payload);  // raises the error that pg_notify raises
    else
        NotifyPlain(RequireNotifiable(name, "herald.notify()"), payload);
    PG_RETURN_VOID();
}

// herald.fetch(message_id bigint) -> jsonb
HERALD_FUNCTION(fetch) {
    const int64 id = PG_GETARG_INT64(0);
    char *name;
    Jsonb *payload = FindKeptPayload(id, &name);
    const Channel *channel = nullptr;
    if (payload != nullptr) {
        channel = &LookUpChannel(name);
    } else {
        StoredMessage message;
        if (!FindMessage(id, &message)) PG_RETURN_NULL();
        payload = message.payload;
        channel = LookUpChannelById(message.channel_id);
    }
    if (channel == nullptr) PG_RETURN_NULL();
    // What is published to an undeclared channel is for everybody, as with NOTIFY. What one may not read is as if it
    // were not there: an error would tell the channels of all ids to whoever counts them up.
    if (channel->declared && (channel->privileges & kPrivilegeRead) == 0) PG_RETURN_NULL();
    PG_RETURN_JSONB_P(payload);
}
