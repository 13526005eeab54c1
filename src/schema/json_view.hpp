// Values within a jsonb, where they stand: nothing is copied, nothing is allocated. jsonb keeps the keys of an
// object sorted by length and then by bytes; CompareKeys is that order.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
#include "utils/numeric.h"
}

namespace herald {

enum class JsonType : uint8 { kNull = 0, kBoolean, kNumber, kString, kArray, kObject };

struct JsonView {
    JsonType type;
    bool boolean;
    uint32 size;  // bytes of a string, elements of an array, pairs of an object
    union {
        const char *string;  // without a zero byte at the end
        Numeric number;
        const JsonbContainer *container;
    };
    std::string_view text() const { return {string, size}; }
};

// The value that an entry of a container stands for; `base` is where the container's data begin.
inline JsonView ViewOfEntry(const char *base, JEntry entry, uint32 offset, uint32 length) {
    JsonView view{};
    switch (entry & JENTRY_TYPEMASK) {
        case JENTRY_ISSTRING:
            view.type = JsonType::kString;
            view.string = base + offset;
            view.size = length;
            break;
        case JENTRY_ISNUMERIC:
            view.type = JsonType::kNumber;
            view.number = reinterpret_cast<Numeric>(const_cast<char *>(base + INTALIGN(offset)));
            break;
        case JENTRY_ISBOOL_TRUE:
            view.boolean = true;
            [[fallthrough]];
        case JENTRY_ISBOOL_FALSE:
            view.type = JsonType::kBoolean;
            break;
        case JENTRY_ISCONTAINER:
            view.container = reinterpret_cast<const JsonbContainer *>(base + INTALIGN(offset));
            view.type = JsonContainerIsArray(view.container) ? JsonType::kArray : JsonType::kObject;
            view.size = JsonContainerSize(view.container);
            break;
        default:
            view.type = JsonType::kNull;
            break;
    }
    return view;
}

// Steps over some entries of a container, of which each knows its length or where it ends.
class EntryWalk {
public:
    EntryWalk(const JsonbContainer *container, uint32 first, uint32 entries)
        : container_(container),
          base_(reinterpret_cast<const char *>(&container->children[entries])),
          index_(first),
          offset_(first == 0 ? 0 : getJsonbOffset(container, static_cast<int>(first))) {}

    JsonView Take() {
        const JEntry entry = container_->children[index_++];
        const uint32 begin = offset_;
        JBE_ADVANCE_OFFSET(offset_, entry);
        return ViewOfEntry(base_, entry, begin, offset_ - begin);
    }

private:
    const JsonbContainer *container_;
    const char *base_;
    uint32 index_;
    uint32 offset_;
};

// for (ArrayWalk walk(array); walk.Next();) walk.value ...
class ArrayWalk {
public:
    explicit ArrayWalk(const JsonView &array) : entries_(array.container, 0, array.size), size_(array.size) {}
    bool Next() {
        if (index == size_) return false;
        value = entries_.Take();
        index++;
        return true;
    }
    JsonView value;
    uint32 index = 0;  // of the element after `value`

private:
    EntryWalk entries_;
    uint32 size_;
};

// for (ObjectWalk walk(object); walk.Next();) walk.key, walk.value ...
class ObjectWalk {
public:
    explicit ObjectWalk(const JsonView &object)
        : keys_(object.container, 0, 2 * object.size),
          values_(object.container, object.size, 2 * object.size),
          size_(object.size) {}
    bool Next() {
        if (index == size_) return false;
        key = keys_.Take();
        value = values_.Take();
        index++;
        return true;
    }
    JsonView key;
    JsonView value;
    uint32 index = 0;

private:
    EntryWalk keys_;
    EntryWalk values_;
    uint32 size_;
};

// The value as a whole; it must be detoasted.
inline JsonView ViewOf(Jsonb *jsonb) {
    const JsonbContainer *root = &jsonb->root;
    if (JsonContainerIsScalar(root)) return EntryWalk(root, 0, 1).Take();
    JsonView view{};
    view.container = root;
    view.type = JsonContainerIsArray(root) ? JsonType::kArray : JsonType::kObject;
    view.size = JsonContainerSize(root);
    return view;
}

inline int CompareKeys(std::string_view left, std::string_view right) {
    if (left.size() != right.size()) return left.size() < right.size() ? -1 : 1;
    return std::memcmp(left.data(), right.data(), left.size());
}

// The member of that name; false: there is none.
bool FindMember(const JsonView &object, std::string_view key, JsonView *value);

inline int CompareNumbers(Numeric left, Numeric right) {
    return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(left), NumericGetDatum(right)));
}
// True for 1.0 as well.
bool IsInteger(Numeric number);

// A total order of values in which exactly those are equal that JSON Schema calls equal: 1 and 1.0, but
// not 1 and true.
int CompareValues(const JsonView &left, const JsonView &right);
inline bool EqualValues(const JsonView &left, const JsonView &right) {
    return left.type == right.type && CompareValues(left, right) == 0;
}

// True where no two elements are equal.
bool ElementsAreUnique(const JsonView &array);

const char *NameOfType(JsonType type);

}  // namespace herald
