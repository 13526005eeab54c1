// SQL entry points of publishing.

#include "log/log_reader.hpp"
#include "pg/guard.hpp"
#include "publish/pointer_store.hpp"
#include "publish/payload.hpp"
#include "publish/publish.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "fmgr.h"
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
                    errmsg("payload for channel \"%s\" must not be NULL", channel.name),
                    errhint("The JSON value null is written 'null'.")));
}

// A jsonb object, or 0 where the argument is NULL. `type`: jsonb, json or text.
// `element`: its number in a batch, from 1; 0: there is only one.
Datum CheckHeaders(const Channel &channel, Datum value, bool is_null, Oid type, int element) {
    if (is_null) return 0;
    if (type != JSONBOID) value = ParseHeaders(channel, DatumGetTextPP(value), element);
    Jsonb *headers = DatumGetJsonbP(value);
    if (!JB_ROOT_IS_OBJECT(headers))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 element == 0
                     ? errmsg("headers of a message to channel \"%s\" are not a JSON object", channel.name)
                     : errmsg("headers of message %d to channel \"%s\" are not a JSON object", element, channel.name)));
    return JsonbPGetDatum(headers);
}

Datum ReturnId(FunctionCallInfo fcinfo, int64 id) {
    if (id == 0) PG_RETURN_NULL();
    PG_RETURN_INT64(id);
}

// Arguments 2 and 3 of herald.publish, with a payload that is already jsonb.
Datum PublishWith(FunctionCallInfo fcinfo, const Channel &channel, Datum payload) {
    NewMessage message{};
    message.payload = payload;
    if (!PG_ARGISNULL(2)) message.key = PointerGetDatum(PG_GETARG_TEXT_PP(2));
    message.headers = CheckHeaders(channel, PG_GETARG_DATUM(3), PG_ARGISNULL(3), JSONBOID, 0);
    return ReturnId(fcinfo, Publish(channel, message));
}

const Channel &ChannelForPublish(FunctionCallInfo fcinfo, const char *function) {
    return RequirePublishable(ChannelNameArgument(fcinfo, 0), function);
}

// The type that a call gives to an argument that takes several; of a domain, what it is made of.
Oid ArgumentType(FunctionCallInfo fcinfo, int argument) {
    const Oid type = get_fn_expr_argtype(fcinfo->flinfo, argument);
    if (!OidIsValid(type))
        ereport(ERROR, (errcode(ERRCODE_INDETERMINATE_DATATYPE),
                        errmsg("could not determine the type of argument %d", argument + 1)));
    return getBaseType(type);
}

// Whether each value of a type has one text, whatever the session's settings.
bool HasOneText(Oid type) {
    char category;
    bool preferred;
    if (type == INT2OID || type == INT4OID || type == INT8OID || type == UUIDOID) return true;
    get_type_category_preferred(type, &category, &preferred);
    return category == TYPCATEGORY_STRING || category == TYPCATEGORY_ENUM;
}

Datum KeyAsText(Datum key, Oid type) {
    Oid output;
    bool is_varlena;
    if (type == TEXTOID || type == VARCHAROID) return PointerGetDatum(DatumGetTextPP(key));
    if (!HasOneText(type))
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("a key can't be of type %s", format_type_be(type)),
                        errhint("Cast it to text: key => ...::text.")));
    getTypeOutputInfo(type, &output, &is_varlena);
    char *result = OidOutputFunctionCall(output, key);
    Size length = std::strlen(result);
    // As its cast to text does it.
    while (type == BPCHAROID && length > 0 && result[length - 1] == ' ') length--;
    return PointerGetDatum(cstring_to_text_with_len(result, static_cast<int>(length)));
}

// The array, which must have one dimension: as one list, the payloads of [[1, 2], [3]] would be three.
ArrayType *ListArgument(FunctionCallInfo fcinfo, const Channel &channel, int argument, const char *name) {
    ArrayType *array = PG_GETARG_ARRAYTYPE_P(argument);
    if (ARR_NDIM(array) <= 1) return array;
    CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
                    errmsg("%s for channel \"%s\" must be an array of one dimension", name, channel.name),
                    errdetail("It has %d.", ARR_NDIM(array)),
                    argument == 1 ? errhint("A JSON array is one element, as JSON text: ARRAY['[1, 2]', '[3]'].")
                                  : errhint("It has one element per payload.")));
    pg_unreachable();
}

// The elements of a text[], json[] or jsonb[].
Datum *ElementsOf(ArrayType *array, bool **nulls, int *count) {
    Datum *elements;
    deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_INT, &elements, nulls, count);
    return elements;
}

// The same of an optional argument, which must have `count` of them; NULL where it is NULL.
Datum *OptionalElements(FunctionCallInfo fcinfo, const Channel &channel, int argument, const char *name, int count,
                        bool **nulls, Oid *type) {
    int found;
    if (PG_ARGISNULL(argument)) return nullptr;
    ArrayType *array = ListArgument(fcinfo, channel, argument, name);
    Datum *elements = ElementsOf(array, nulls, &found);
    if (type != nullptr) *type = ARR_ELEMTYPE(array);
    if (found != count)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must have one element per payload", name),
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
    return PublishWith(fcinfo, channel, ParsePayload(channel, PG_GETARG_TEXT_PP(1), 0));
}

// The same for arguments of other types, as the call has them.
HERALD_FUNCTION(publish_any) {
    const Channel &channel = ChannelForPublish(fcinfo, "herald.publish()");
    const Oid type = ArgumentType(fcinfo, 1);
    NewMessage message{};

    if (type != JSONBOID && type != JSONOID && type != TEXTOID)
        ereport(ERROR,
                (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("a payload can't be of type %s", format_type_be(type)),
                 errhint("to_jsonb() makes JSON of any value.")));
    if (PG_ARGISNULL(1)) RefuseNullPayload(channel);
    message.payload =
        type == JSONBOID ? JsonbPGetDatum(PG_GETARG_JSONB_P(1)) : ParsePayload(channel, PG_GETARG_TEXT_PP(1), 0);
    if (!PG_ARGISNULL(2)) message.key = KeyAsText(PG_GETARG_DATUM(2), ArgumentType(fcinfo, 2));
    if (!PG_ARGISNULL(3))
        message.headers = CheckHeaders(channel, PG_GETARG_DATUM(3), false, ArgumentType(fcinfo, 3), 0);
    return ReturnId(fcinfo, Publish(channel, message));
}

// herald.publish_batch(channel text, payloads jsonb[], keys text[], headers jsonb[]) -> setof bigint,
// and the same for json[] and text[].
HERALD_FUNCTION(publish_batch) {
    const Channel &channel = ChannelForPublish(fcinfo, "herald.publish_batch()");
    bool *payload_nulls;
    bool *key_nulls = nullptr;
    bool *header_nulls = nullptr;
    Oid header_type = InvalidOid;
    int count;

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("payloads for channel \"%s\" must not be NULL", channel.name)));
    ArrayType *array = ListArgument(fcinfo, channel, 1, "payloads");
    Datum *payloads = ElementsOf(array, &payload_nulls, &count);
    Datum *keys = OptionalElements(fcinfo, channel, 2, "keys", count, &key_nulls, nullptr);
    Datum *headers = OptionalElements(fcinfo, channel, 3, "headers", count, &header_nulls, &header_type);
    const bool is_jsonb = ARR_ELEMTYPE(array) == JSONBOID;

    NewMessage *messages = static_cast<NewMessage *>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(NewMessage) * Max(static_cast<Size>(count), 1)));
    int64 *ids = static_cast<int64 *>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(static_cast<Size>(count), 1)));
    for (int i = 0; i < count; i++) {
        CHECK_FOR_INTERRUPTS();
        if (payload_nulls[i]) {
            CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                            errmsg("payload %d for channel \"%s\" must not be NULL", i + 1, channel.name),
                            errhint("The JSON value null is written 'null'.")));
        }
        messages[i].payload = is_jsonb ? JsonbPGetDatum(DatumGetJsonbP(payloads[i]))
                                       : ParsePayload(channel, DatumGetTextPP(payloads[i]), i + 1);
        messages[i].key =
            keys == nullptr || key_nulls[i] ? static_cast<Datum>(0) : PointerGetDatum(DatumGetTextPP(keys[i]));
        messages[i].headers = headers == nullptr
                                  ? static_cast<Datum>(0)
                                  : CheckHeaders(channel, headers[i], header_nulls[i], header_type, i + 1);
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
    // Messages of an undeclared channel are for everybody, as with NOTIFY. One that the caller may not read is as if it
    // were not there: an error would tell the channels of all ids to whoever counts them up.
    if (channel->declared && (channel->privileges & kPrivilegeRead) == 0) PG_RETURN_NULL();
    PG_RETURN_JSONB_P(payload);
}
