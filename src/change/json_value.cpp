// See json_value.hpp. The classes of types are those of to_jsonb; what is written by hand here (integers,
// numerics, uuids, texts) is what most columns are made of.

#include "change/json_value.hpp"

#include "change/json_text.hpp"
#include "change/row_json.hpp"
#include "change/table_shape.hpp"

extern "C" {
#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/bytea.h"
#include "utils/date.h"
#include "utils/float.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/typcache.h"
#include "utils/uuid.h"
}

namespace herald {

namespace {

// What is left of kMaxJsonBytes for entries and keys of the containers around a value.
constexpr Size kReservedBytes = 1024 * 1024;
// A value of another type than text takes at most this many times its bytes.
constexpr Size kMaxGrowth = 8;
// Whole numbers below are written by float8out with all digits and without exponent.
constexpr double kMaxPlainFloat = 1e15;
constexpr double kMaxPlainReal = 1e6;

ConversionKind KindOf(Oid type, Conversion *conversion, ShapeBuilder *builder) {
    switch (type) {
        case BOOLOID:
            return ConversionKind::kBool;
        case INT2OID:
            return ConversionKind::kInt2;
        case INT4OID:
            return ConversionKind::kInt4;
        case INT8OID:
            return ConversionKind::kInt8;
        case FLOAT4OID:
            return ConversionKind::kFloat4;
        case FLOAT8OID:
            return ConversionKind::kFloat8;
        case NUMERICOID:
            return ConversionKind::kNumeric;
        case TEXTOID:
        case VARCHAROID:
        case BPCHAROID:
            return ConversionKind::kText;
        case UUIDOID:
            return ConversionKind::kUuid;
        case DATEOID:
            return ConversionKind::kDate;
        case TIMESTAMPOID:
            return ConversionKind::kTimestamp;
        case TIMESTAMPTZOID:
            return ConversionKind::kTimestampTz;
        case JSONOID:
            return ConversionKind::kJson;
        case JSONBOID:
            return ConversionKind::kJsonb;
        case MONEYOID:
            return ConversionKind::kMoney;
    }
    const Oid element = get_element_type(type);
    if (OidIsValid(element)) {
        conversion->element = MakeConversion(builder, element);
        return ConversionKind::kArray;
    }
    if (type_is_rowtype(type)) {
        // A value may be of another row type than its column.
        builder->needs |= kNeedsZone;
        conversion->row = MakeCompositeShape(builder, type);
        return ConversionKind::kComposite;
    }
    if (type >= FirstNormalObjectId &&
        find_coercion_pathway(JSONOID, type, COERCION_EXPLICIT, &conversion->cast) == COERCION_PATH_FUNC &&
        OidIsValid(conversion->cast)) {
        builder->needs |= NeedsOfCast(conversion->cast);
        return ConversionKind::kJsonCast;
    }
    const OutputNeeds needs = NeedsOfType(type);
    builder->needs |= needs;
    return (needs & kNeedsPath) != 0 ? ConversionKind::kName : ConversionKind::kOutput;
}

Size RoomIn(const JsonBuffer *buffer) {
    constexpr Size kMost = kMaxJsonBytes - kReservedBytes;
    return buffer->length < kMost ? kMost - buffer->length : 0;
}

JEntry AppendCString(JsonBuffer *buffer, const char *text) {
    const Size length = std::strlen(text);
    return length <= RoomIn(buffer) ? AppendString(buffer, text, length)
                                    : AppendOmitted(buffer, static_cast<int64>(length));
}

JEntry AppendUuid(JsonBuffer *buffer, const pg_uuid_t *uuid) {
    static constexpr char kHex[] = "0123456789abcdef";
    char text[2 * UUID_LEN + 4];
    char *to = text;
    for (int i = 0; i < UUID_LEN; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *to++ = '-';
        *to++ = kHex[uuid->data[i] >> 4];
        *to++ = kHex[uuid->data[i] & 15];
    }
    return AppendString(buffer, text, sizeof(text));
}

JEntry AppendNumericValue(JsonBuffer *buffer, Datum value) {
    const struct varlena *numeric = PG_DETOAST_DATUM_PACKED(value);
    uint16 header;
    std::memcpy(&header, VARDATA_ANY(numeric), sizeof(header));
    // NaN and the infinities are the only ones with both bits.
    if ((header & 0xC000) == 0xC000) {
        const char *text = DatumGetCString(DirectFunctionCall1(numeric_out, value));
        return AppendCString(buffer, text);
    }
    return AppendNumeric(buffer, numeric);
}

JEntry AppendFloat(JsonBuffer *buffer, const Conversion &conversion, Datum value) {
    const bool is_real = conversion.kind == ConversionKind::kFloat4;
    const double number = is_real ? DatumGetFloat4(value) : DatumGetFloat8(value);
    const double limit = is_real ? kMaxPlainReal : kMaxPlainFloat;
    // Shortest output is the default; older forms of it round.
    if (extra_float_digits > 0 && number < limit && number > -limit &&
        number == static_cast<double>(static_cast<int64>(number)))
        return AppendInteger(buffer, static_cast<int64>(number));
    char *text = OutputFunctionCall(const_cast<FmgrInfo *>(&conversion.output), value);
    // NaN and the infinities.
    if (number - number != 0) return AppendCString(buffer, text);
    return AppendNumericValue(buffer, DirectFunctionCall3(numeric_in, CStringGetDatum(text),
                                                          ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

JEntry AppendTime(JsonBuffer *buffer, const Conversion &conversion, Datum value) {
    auto &last = conversion.last;
    const int64 number = conversion.kind == ConversionKind::kDate ? DatumGetDateADT(value) : DatumGetTimestamp(value);
    if (last.length == 0 || last.value != number) {
        const int utc = 0;
        last.length = 0;
        (void)JsonEncodeDateTime(last.text, value, conversion.type,
                                 conversion.kind == ConversionKind::kTimestampTz ? &utc : nullptr);
        last.value = number;
        last.length = static_cast<int>(std::strlen(last.text));
    }
    return AppendString(buffer, last.text, last.length);
}

// As in the locale C: lc_monetary says how a session shows it, and so which number it stands for.
JEntry AppendMoney(JsonBuffer *buffer, int64 cents) {
    const bool negative = cents < 0;
    uint64 rest = negative ? -static_cast<uint64>(cents) : static_cast<uint64>(cents);
    char text[40];
    char *begin = text + sizeof(text);
    for (int digit = 0; digit < 3 || rest != 0; digit++) {
        if (digit == 2) *--begin = '.';
        if (digit > 2 && digit % 3 == 2) *--begin = ',';
        *--begin = static_cast<char>('0' + rest % 10);
        rest /= 10;
    }
    *--begin = '$';
    if (negative) *--begin = '-';
    return AppendString(buffer, begin, static_cast<Size>(text + sizeof(text) - begin));
}

JEntry AppendName(JsonBuffer *buffer, const Conversion &conversion, Datum value) {
    const int pinned = PinNames();
    const char *text = OutputFunctionCall(const_cast<FmgrInfo *>(&conversion.output), value);
    UnpinOutputSettings(pinned);
    return AppendCString(buffer, text);
}

// Text of type json, detoasted.
JEntry AppendJson(JsonBuffer *buffer, const struct varlena *json) {
    const char *text = VARDATA_ANY(json);
    const Size length = VARSIZE_ANY_EXHDR(json);
    if (length <= kMaxJsonText && length <= RoomIn(buffer) / kMaxGrowth) return AppendJsonText(buffer, text, length);
    return length <= RoomIn(buffer) ? AppendString(buffer, text, length)
                                    : AppendOmitted(buffer, static_cast<int64>(length));
}

JEntry AppendByCast(JsonBuffer *buffer, const Conversion &conversion, Datum value) {
    FmgrInfo cast;
    LOCAL_FCINFO(fcinfo, 1);
    // Looked up each time: what the user's language keeps with it must not outlive an error of it.
    fmgr_info(conversion.cast, &cast);
    InitFunctionCallInfoData(*fcinfo, &cast, 1, InvalidOid, nullptr, nullptr);
    fcinfo->args[0].value = value;
    fcinfo->args[0].isnull = false;
    const Datum json = FunctionCallInvoke(fcinfo);
    if (fcinfo->isnull) return AppendNull();
    if (BytesOf(json) > RoomIn(buffer)) return AppendOmitted(buffer, static_cast<int64>(BytesOf(json)));
    return AppendJson(buffer, PG_DETOAST_DATUM_PACKED(json));
}

struct ArrayItems {
    const Conversion *element;
    const int *dimensions;
    int dimension_count;
    const Datum *values;
    const bool *nulls;
    int next;
};

JEntry AppendDimension(JsonBuffer *buffer, ArrayItems *items, int dimension) {
    const bool innermost = dimension + 1 == items->dimension_count;
    const int count = items->dimensions[dimension];
    JsonStart start = BeginContainer(buffer, JB_FARRAY, static_cast<uint32>(count));
    for (int i = 0; i < count; i++) {
        JEntry entry;
        if (!innermost) {
            entry = AppendDimension(buffer, items, dimension + 1);
        } else {
            const int item = items->next++;
            entry = items->nulls[item] ? AppendNull() : AppendValue(buffer, *items->element, items->values[item]);
        }
        SetEntry(buffer, &start, entry);
    }
    return EndContainer(buffer, start);
}

JEntry AppendArray(JsonBuffer *buffer, const Conversion &conversion, Datum value) {
    ArrayType *array = DatumGetArrayTypeP(value);
    const Conversion &element = *conversion.element;
    ArrayItems items{};
    Datum *values;
    bool *nulls;
    int count;

    if (ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) <= 0)
        return EndContainer(buffer, BeginContainer(buffer, JB_FARRAY, 0));
    deconstruct_array(array, ARR_ELEMTYPE(array), element.length, element.by_value, element.alignment, &values, &nulls,
                      &count);
    items.element = &element;
    items.dimensions = ARR_DIMS(array);
    items.dimension_count = ARR_NDIM(array);
    items.values = values;
    items.nulls = nulls;
    const JEntry entry = AppendDimension(buffer, &items, 0);
    pfree(values);
    pfree(nulls);
    return entry;
}

JEntry AppendComposite(JsonBuffer *buffer, const Conversion &conversion, Datum value) {
    HeapTupleHeader header = DatumGetHeapTupleHeader(value);
    const RowShape *shape = conversion.row;
    HeapTupleData tuple{};

    if (HeapTupleHeaderGetTypeId(header) != conversion.type) {
        // A record that was stored under another type's name: seldom enough to look at it anew.
        ShapeBuilder builder{CurrentMemoryContext, nullptr, 0, 0};
        TupleDesc desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
        shape = MakeRowShape(&builder, desc);
        ReleaseTupleDesc(desc);
    }
    tuple.t_len = HeapTupleHeaderGetDatumLength(header);
    tuple.t_data = header;
    ItemPointerSetInvalid(&tuple.t_self);
    Datum *values = static_cast<Datum *>(palloc(sizeof(Datum) * Max(shape->desc->natts, 1)));
    bool *nulls = static_cast<bool *>(palloc(sizeof(bool) * Max(shape->desc->natts, 1)));
    heap_deform_tuple(&tuple, shape->desc, values, nulls);
    return AppendObject(buffer, shape, {values, nulls});
}

}  // namespace

Size BytesOf(Datum value) { return toast_raw_datum_size(value) - VARHDRSZ; }

const Conversion *MakeConversion(ShapeBuilder *builder, Oid type) {
    Conversion *conversion = static_cast<Conversion *>(MemoryContextAllocZero(builder->context, sizeof(Conversion)));
    Oid output;
    bool is_varlena;

    check_stack_depth();
    get_typlenbyvalalign(type, &conversion->length, &conversion->by_value, &conversion->alignment);
    conversion->type = getBaseType(type);
    conversion->kind = KindOf(conversion->type, conversion, builder);
    getTypeOutputInfo(conversion->type, &output, &is_varlena);
    fmgr_info_cxt(output, &conversion->output, builder->context);
    return conversion;
}

JEntry AppendValue(JsonBuffer *buffer, const Conversion &conversion, Datum value) {
    switch (conversion.kind) {
        case ConversionKind::kBool:
            return AppendBool(DatumGetBool(value));
        case ConversionKind::kInt2:
            return AppendInteger(buffer, DatumGetInt16(value));
        case ConversionKind::kInt4:
            return AppendInteger(buffer, DatumGetInt32(value));
        case ConversionKind::kInt8:
            return AppendInteger(buffer, DatumGetInt64(value));
        case ConversionKind::kFloat4:
        case ConversionKind::kFloat8:
            return AppendFloat(buffer, conversion, value);
        case ConversionKind::kUuid:
            return AppendUuid(buffer, DatumGetUUIDP(value));
        case ConversionKind::kDate:
        case ConversionKind::kTimestamp:
        case ConversionKind::kTimestampTz:
            return AppendTime(buffer, conversion, value);
        case ConversionKind::kMoney:
            return AppendMoney(buffer, DatumGetInt64(value));
        default:
            break;
    }

    // A value that is too large is not even detoasted.
    const bool is_varlena = conversion.length == -1;
    const Size bytes = is_varlena ? BytesOf(value) : 0;
    const bool keeps_size = conversion.kind == ConversionKind::kText || conversion.kind == ConversionKind::kNumeric ||
                            conversion.kind == ConversionKind::kJson || conversion.kind == ConversionKind::kJsonb ||
                            conversion.kind == ConversionKind::kJsonCast;
    Size growth = keeps_size ? 1 : kMaxGrowth;
    if (conversion.type == BYTEAOID) growth = bytea_output == BYTEA_OUTPUT_HEX ? 2 : 4;
    if (bytes > RoomIn(buffer) / growth) return AppendOmitted(buffer, static_cast<int64>(bytes));

    switch (conversion.kind) {
        case ConversionKind::kNumeric:
            return AppendNumericValue(buffer, value);
        case ConversionKind::kText: {
            const struct varlena *text = PG_DETOAST_DATUM_PACKED(value);
            return AppendString(buffer, VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text));
        }
        case ConversionKind::kJsonb:
            return AppendJsonb(buffer, DatumGetJsonbP(value));
        case ConversionKind::kJson:
            return AppendJson(buffer, PG_DETOAST_DATUM_PACKED(value));
        case ConversionKind::kJsonCast:
            return AppendByCast(buffer, conversion, value);
        case ConversionKind::kArray:
            return AppendArray(buffer, conversion, value);
        case ConversionKind::kComposite:
            return AppendComposite(buffer, conversion, value);
        case ConversionKind::kName:
            return AppendName(buffer, conversion, value);
        default:
            break;
    }
    return AppendCString(buffer, OutputFunctionCall(const_cast<FmgrInfo *>(&conversion.output), value));
}

}  // namespace herald
