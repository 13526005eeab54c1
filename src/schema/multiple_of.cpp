// See multiple_of.hpp.

#include "schema/multiple_of.hpp"

#include "schema/json_view.hpp"

extern "C" {
#include "utils/fmgrprotos.h"
}

namespace herald {

namespace {

// What a division of numerics works on, in their digits to the base 10000.
struct NumericSize {
    int weight;  // of the first digit; below 0: a fraction
    int digits;
};

NumericSize SizeOf(Numeric number) {
    uint16 header;
    std::memcpy(&header, VARDATA(number), sizeof(header));
    const bool is_short = (header & 0x8000) != 0;
    const Size header_bytes = is_short ? sizeof(uint16) : 2 * sizeof(uint16);
    const int digits = static_cast<int>((VARSIZE(number) - VARHDRSZ - header_bytes) / sizeof(int16));
    if (is_short) return {(header & 0x0040) != 0 ? (header & 0x003F) - 0x40 : header & 0x003F, digits};
    int16 weight;
    std::memcpy(&weight, VARDATA(number) + sizeof(header), sizeof(weight));
    return {weight, digits};
}

}  // namespace

int64 StepsOfDivision(Numeric number, Numeric by) {
    const NumericSize dividend = SizeOf(number), divisor = SizeOf(by);
    const int64 quotient = Max(dividend.weight - divisor.weight, 0) + 2;
    return (quotient * (divisor.digits + 1) + dividend.digits) / 32;
}

bool IsMultipleOf(Numeric number, Numeric of) {
    Numeric rest = DatumGetNumeric(DirectFunctionCall2(numeric_mod, NumericGetDatum(number), NumericGetDatum(of)));
    const bool none = CompareNumbers(rest, int64_to_numeric(0)) == 0;
    pfree(rest);
    return none;
}

}  // namespace herald
