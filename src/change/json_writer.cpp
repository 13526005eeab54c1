// See json_writer.hpp. The form is that of utils/jsonb.h, and numbers that of numeric, which are on disk in
// every database and so don't change between versions.

#include "change/json_writer.hpp"

namespace herald {

namespace {

constexpr Size kFirstCapacity = 1024;
constexpr Size kKeptCapacity = 1024 * 1024;

// A numeric of the short form: header, sign and weight in 16 bits, then digits to the base 10000.
constexpr uint16 kShortNumeric = 0x8000;
constexpr uint16 kShortNegative = 0x2000;
constexpr uint64 kNumericBase = 10000;
constexpr int kMaxDigits = 5;  // of 2^64

}  // namespace

void InitJsonBuffer(JsonBuffer *buffer, MemoryContext context) {
    buffer->data = nullptr;
    buffer->length = buffer->capacity = 0;
    buffer->context = context;
}

void ResetJsonBuffer(JsonBuffer *buffer) {
    if (buffer->capacity > kKeptCapacity) {
        pfree(buffer->data);
        buffer->data = nullptr;
        buffer->capacity = 0;
    }
    buffer->length = 0;
    (void)ReserveJson(buffer, VARHDRSZ);
    buffer->length = VARHDRSZ;
}

void GrowJsonBuffer(JsonBuffer *buffer, Size more) {
    Size capacity = Max(buffer->capacity * 2, kFirstCapacity);
    while (capacity < buffer->length + more) capacity *= 2;
    buffer->data = static_cast<char *>(buffer->data == nullptr
                                           ? MemoryContextAllocExtended(buffer->context, capacity, MCXT_ALLOC_HUGE)
                                           : repalloc_huge(buffer->data, capacity));
    buffer->capacity = capacity;
}

Jsonb *FinishJson(JsonBuffer *buffer) {
    SET_VARSIZE(buffer->data, buffer->length);
    return reinterpret_cast<Jsonb *>(buffer->data);
}

JEntry AppendInteger(JsonBuffer *buffer, int64 value) {
    uint64 rest = value < 0 ? -static_cast<uint64>(value) : static_cast<uint64>(value);
    int16 digits[kMaxDigits];
    int first = kMaxDigits;
    while (rest != 0) {
        digits[--first] = static_cast<int16>(rest % kNumericBase);
        rest /= kNumericBase;
    }
    int count = kMaxDigits - first;
    const uint16 weight = static_cast<uint16>(count == 0 ? 0 : count - 1);
    while (count > 0 && digits[first + count - 1] == 0) count--;

    const uint32 padding = PadJson(buffer);
    const Size size = VARHDRSZ + sizeof(uint16) + count * sizeof(int16);
    const uint16 header = kShortNumeric | (value < 0 ? kShortNegative : 0) | weight;
    char *to = ReserveJson(buffer, VARHDRSZ + sizeof(uint16) + sizeof(digits));
    SET_VARSIZE(to, size);
    std::memcpy(to + VARHDRSZ, &header, sizeof(header));
    std::memcpy(to + VARHDRSZ + sizeof(header), digits + first, count * sizeof(int16));
    buffer->length += size;
    return JENTRY_ISNUMERIC | static_cast<JEntry>(padding + size);
}

JEntry AppendNumeric(JsonBuffer *buffer, const void *numeric) {
    const uint32 padding = PadJson(buffer);
    const Size bytes = VARSIZE_ANY_EXHDR(numeric);
    char *to = ReserveJson(buffer, VARHDRSZ + bytes);
    SET_VARSIZE(to, VARHDRSZ + bytes);
    std::memcpy(to + VARHDRSZ, VARDATA_ANY(numeric), bytes);
    buffer->length += VARHDRSZ + bytes;
    return JENTRY_ISNUMERIC | static_cast<JEntry>(padding + VARHDRSZ + bytes);
}

JEntry AppendJsonb(JsonBuffer *buffer, const Jsonb *value) {
    if (JB_ROOT_IS_SCALAR(value)) {
        // An array of one, whose element's data follow its only entry.
        const JEntry entry = value->root.children[0];
        const char *data = reinterpret_cast<const char *>(&value->root.children[1]);
        const Size length = JBE_OFFLENFLD(entry);
        if (JBE_ISNUMERIC(entry)) return AppendNumeric(buffer, data);
        return (entry & JENTRY_TYPEMASK) | (AppendString(buffer, data, length) & JENTRY_OFFLENMASK);
    }
    const uint32 padding = PadJson(buffer);
    const Size bytes = VARSIZE(value) - VARHDRSZ;
    (void)AppendString(buffer, reinterpret_cast<const char *>(&value->root), bytes);
    return JENTRY_ISCONTAINER | static_cast<JEntry>(padding + bytes);
}

JEntry AppendOmitted(JsonBuffer *buffer, int64 bytes) {
    static constexpr std::string_view kName = "omitted_bytes";
    JsonStart start = BeginContainer(buffer, JB_FOBJECT, 1);
    SetEntry(buffer, &start, AppendString(buffer, kName.data(), kName.size()));
    SetEntry(buffer, &start, AppendInteger(buffer, bytes));
    return EndContainer(buffer, start);
}

JsonStart BeginContainer(JsonBuffer *buffer, uint32 kind, uint32 count) {
    JsonStart start{};
    start.begin = buffer->length;
    (void)PadJson(buffer);
    const uint32 header = count | kind;
    const Size entries = sizeof(JEntry) * (kind == JB_FOBJECT ? Size{count} * 2 : Size{count});
    std::memcpy(ReserveJson(buffer, sizeof(header) + entries), &header, sizeof(header));
    start.entries = buffer->length + sizeof(header);
    buffer->length = start.entries + entries;
    return start;
}

}  // namespace herald
