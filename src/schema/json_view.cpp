// See json_view.hpp.

#include "schema/json_view.hpp"

extern "C" {
#include "utils/fmgrprotos.h"
}

namespace herald {

namespace {

// Arrays up to this size are compared pair by pair.
constexpr uint32 kFewElements = 8;

int CompareElements(const void *left, const void *right) {
    return CompareValues(*static_cast<const JsonView *>(left), *static_cast<const JsonView *>(right));
}

}  // namespace

bool FindMember(const JsonView &object, std::string_view key, JsonView *value) {
    uint32 low = 0;
    uint32 high = object.size;
    while (low < high) {
        const uint32 middle = low + (high - low) / 2;
        const int order = CompareKeys(EntryWalk(object.container, middle, 2 * object.size).Take().text(), key);
        if (order == 0) {
            *value = EntryWalk(object.container, object.size + middle, 2 * object.size).Take();
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

bool IsInteger(Numeric number) {
    return DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(number))) == 0;
}

int CompareValues(const JsonView &left, const JsonView &right) {
    check_stack_depth();
    CHECK_FOR_INTERRUPTS();
    if (left.type != right.type) return left.type < right.type ? -1 : 1;
    switch (left.type) {
        case JsonType::kNull:
            return 0;
        case JsonType::kBoolean:
            return static_cast<int>(left.boolean) - static_cast<int>(right.boolean);
        case JsonType::kNumber:
            return CompareNumbers(left.number, right.number);
        case JsonType::kString:
            return CompareKeys(left.text(), right.text());
        case JsonType::kArray: {
            if (left.size != right.size) return left.size < right.size ? -1 : 1;
            ArrayWalk others(right);
            for (ArrayWalk walk(left); walk.Next();) {
                (void)others.Next();
                if (int order = CompareValues(walk.value, others.value); order != 0) return order;
            }
            return 0;
        }
        case JsonType::kObject: {
            if (left.size != right.size) return left.size < right.size ? -1 : 1;
            ObjectWalk others(right);
            for (ObjectWalk walk(left); walk.Next();) {
                (void)others.Next();
                if (int order = CompareKeys(walk.key.text(), others.key.text()); order != 0) return order;
                if (int order = CompareValues(walk.value, others.value); order != 0) return order;
            }
            return 0;
        }
    }
    pg_unreachable();
}

bool ElementsAreUnique(const JsonView &array) {
    if (array.size < 2) return true;
    if (array.size <= kFewElements) {
        JsonView elements[kFewElements];
        for (ArrayWalk walk(array); walk.Next();) {
            for (uint32 i = 0; i + 1 < walk.index; i++)
                if (EqualValues(elements[i], walk.value)) return false;
            elements[walk.index - 1] = walk.value;
        }
        return true;
    }
    JsonView *elements =
        static_cast<JsonView *>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(JsonView) * array.size));
    for (ArrayWalk walk(array); walk.Next();) elements[walk.index - 1] = walk.value;
    qsort(elements, array.size, sizeof(JsonView), CompareElements);
    bool unique = true;
    for (uint32 i = 1; i < array.size && unique; i++) unique = !EqualValues(elements[i - 1], elements[i]);
    pfree(elements);
    return unique;
}

const char *NameOfType(JsonType type) {
    constexpr const char *kNames[] = {"null", "boolean", "number", "string", "array", "object"};
    return kNames[static_cast<int>(type)];
}

}  // namespace herald
