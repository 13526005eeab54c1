// See given_key.hpp. Only types of the server are read, so no code of users runs.

#include "audit/given_key.hpp"

#include "change/json_value.hpp"
#include "change/output_settings.hpp"

extern "C" {
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "utils/fmgrprotos.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
}

namespace herald {

namespace {

// The type of the column below domains, where a text may be one of several that mean the same value; else InvalidOid.
Oid TypeWithForms(Oid relation, const char *column) {
    const AttrNumber number = get_attnum(relation, column);
    if (number <= 0) return InvalidOid;
    const Oid type = getBaseType(get_atttype(relation, number));
    char category;
    bool preferred;
    if (type >= FirstNormalObjectId) return InvalidOid;
    get_type_category_preferred(type, &category, &preferred);
    switch (category) {
        case TYPCATEGORY_DATETIME:
        case TYPCATEGORY_TIMESPAN:
        case TYPCATEGORY_RANGE:
        case TYPCATEGORY_NETWORK:
        case TYPCATEGORY_USER:
            return type == JSONOID || type == JSONBOID ? InvalidOid : type;
        default:
            return InvalidOid;
    }
}

// A jsonb string, as the trail has the value.
Datum RecordedText(Oid type, char *text) {
    Oid input, element;
    getTypeInputInfo(type, &input, &element);
    const Datum value = OidInputFunctionCall(input, text, element, -1);
    ShapeBuilder builder{CurrentMemoryContext, nullptr, 0, 0};
    const Conversion *conversion = MakeConversion(&builder, type);
    JsonBuffer buffer;
    InitJsonBuffer(&buffer, CurrentMemoryContext);
    ResetJsonBuffer(&buffer);
    const int pinned = PinOutputSettings(builder.needs);
    JsonStart start = BeginContainer(&buffer, JB_FARRAY | JB_FSCALAR, 1);
    SetEntry(&buffer, &start, AppendValue(&buffer, *conversion, value));
    (void)EndContainer(&buffer, start);
    UnpinOutputSettings(pinned);
    return JsonbPGetDatum(FinishJson(&buffer));
}

}  // namespace

const Jsonb *RecordedForm(Oid relation, const Jsonb *given) {
    if (!JB_ROOT_IS_OBJECT(given)) return given;
    Datum key = PointerGetDatum(given);
    JsonbIterator *iterator = JsonbIteratorInit(const_cast<JsonbContainer *>(&given->root));
    JsonbValue name, value;
    (void)JsonbIteratorNext(&iterator, &value, true);
    while (JsonbIteratorNext(&iterator, &name, true) == WJB_KEY) {
        CHECK_FOR_INTERRUPTS();
        (void)JsonbIteratorNext(&iterator, &value, true);
        if (value.type != jbvString) continue;
        const char *column = pnstrdup(name.val.string.val, static_cast<Size>(name.val.string.len));
        const Oid type = TypeWithForms(relation, column);
        if (!OidIsValid(type)) continue;
        Datum path = CStringGetTextDatum(column);
        key = DirectFunctionCall4(
            jsonb_set, key, PointerGetDatum(construct_array(&path, 1, TEXTOID, -1, false, TYPALIGN_INT)),
            RecordedText(type, pnstrdup(value.val.string.val, static_cast<Size>(value.val.string.len))),
            BoolGetDatum(false));
    }
    return DatumGetJsonbP(key);
}

}  // namespace herald
