// See record_hash.hpp. It is no hash where it need not be: rows that are made one after the other mostly have
// keys near each other (sequences, uuids of version 7), and numbers near each other share pages of the index,
// where random ones would have each change touch another page. The target's id comes first, for the same
// reason: tables don't mix.

#include "pg/pg.hpp"

#include "audit/record_hash.hpp"

extern "C" {
#include "common/hashfn.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
}

namespace herald {

namespace {

constexpr int kKeyBits = 48;
constexpr uint64 kKeyMask = (UINT64CONST(1) << kKeyBits) - 1;
constexpr uint32 kTargetMask = 0x7FFF;
// Of several columns each is a digit of that base: the later ones, whichever grows, keep rows together.
constexpr uint64 kColumnFactor = 1000003;
constexpr uint32 kUuidTextLength = 36;
constexpr int kUuidTimeDigits = 12;
constexpr int kUuidHashBits = 12;

uint64 HashBytes(const char *bytes, uint32 length) {
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(bytes), static_cast<int>(length), 0);
}

// The milliseconds at the begin of a uuid of version 7 as text, or false.
bool UuidTime(const char *text, uint32 length, uint64 *time) {
    if (length != kUuidTextLength || text[8] != '-' || text[13] != '-' || text[14] != '7') return false;
    *time = 0;
    for (int i = 0, digits = 0; digits < kUuidTimeDigits; i++) {
        if (i == 8) continue;
        const char c = text[i];
        const bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && (c < 'a' || c > 'f')) return false;
        *time = *time * 16 + static_cast<uint64>(is_digit ? c - '0' : c - 'a' + 10);
        digits++;
    }
    return true;
}

uint64 HashString(const char *text, uint32 length) {
    const uint64 hash = HashBytes(text, length);
    uint64 time;
    if (!UuidTime(text, length, &time)) return hash;
    return (time << kUuidHashBits) | (hash & ((1 << kUuidHashBits) - 1));
}

// A whole number that needs no more than 64 bits stands for itself; numerics that are equal have one hash.
uint64 HashNumber(Numeric number, bool trimmed = false) {
    // The short form without a fraction: header, then digits to the base 10000.
    const char *data = VARDATA(number);
    uint16 header;
    std::memcpy(&header, data, sizeof(header));
    const int digits = static_cast<int>((VARSIZE(number) - VARHDRSZ - sizeof(header)) / sizeof(int16));
    const int weight = (header & 0x40) ? -1 : header & 0x3F;
    constexpr int kMaxWeight = 4;  // what is over 64 bits wraps around
    if ((header & 0xC000) != 0x8000 || digits > weight + 1 || weight > kMaxWeight) {
        if (trimmed)
            return DatumGetUInt64(
                DirectFunctionCall2(hash_numeric_extended, NumericGetDatum(number), UInt64GetDatum(0)));
        // With many zeros after the point a whole number has the long form, too.
        return HashNumber(DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(number))), true);
    }
    uint64 value = 0;
    for (int i = 0; i <= weight; i++) {
        int16 digit = 0;
        if (i < digits) std::memcpy(&digit, data + sizeof(header) + i * sizeof(int16), sizeof(digit));
        value = value * 10000 + static_cast<uint64>(digit);
    }
    return (header & 0x2000) ? -value : value;
}

uint64 HashContainer(const char *data, uint32 length) {
    Jsonb *jsonb = static_cast<Jsonb *>(palloc(VARHDRSZ + length));
    std::memcpy(VARDATA(jsonb), data, length);
    SET_VARSIZE(jsonb, VARHDRSZ + length);
    const Datum hash = DirectFunctionCall2(jsonb_hash_extended, JsonbPGetDatum(jsonb), UInt64GetDatum(0));
    pfree(jsonb);
    return DatumGetUInt64(hash);
}

}  // namespace

int64 RecordHash(int32 target_id, const Jsonb *record_id) {
    const JsonbContainer *root = &record_id->root;
    const uint32 count = JsonContainerIsObject(root) ? JsonContainerSize(root) : 0;
    const char *base = reinterpret_cast<const char *>(&root->children[count * 2]);
    uint64 hash = 0;
    uint32 offset = 0;

    for (uint32 i = 0; i < count * 2; i++) {
        const JEntry entry = root->children[i];
        const uint32 begin = offset;
        JBE_ADVANCE_OFFSET(offset, entry);
        if (i < count) continue;
        uint64 value;
        const char *aligned = base + INTALIGN(begin);
        if (JBE_ISSTRING(entry))
            value = HashString(base + begin, offset - begin);
        else if (JBE_ISNUMERIC(entry))
            value = HashNumber(reinterpret_cast<Numeric>(const_cast<char *>(aligned)));
        else if (JBE_ISCONTAINER(entry))
            value = HashContainer(aligned, offset - static_cast<uint32>(INTALIGN(begin)));
        else
            value = entry & JENTRY_TYPEMASK;
        hash = hash * kColumnFactor + value;
    }
    const uint64 target = static_cast<uint32>(target_id) & kTargetMask;
    const int64 result = static_cast<int64>(target << kKeyBits | (hash & kKeyMask));
    return result == 0 ? 1 : result;
}

}  // namespace herald
