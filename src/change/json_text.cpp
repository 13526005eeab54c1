// See json_text.hpp. A look at the text tells what the parser will make of it; where that is not sure (deep
// nesting, extreme numbers, escapes in an encoding that may lack the character) it runs in a subtransaction.

#include "change/json_text.hpp"

#include "pg/subtransaction.hpp"

extern "C" {
#include "mb/pg_wchar.h"
}

namespace herald {

namespace {

enum class Outlook { kFits, kUnsure, kHopeless };

constexpr int kSureDepth = 64;
constexpr int kSureNumber = 500;
constexpr int kSureExponent = 3;  // digits

int HexDigit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// The four hex digits at `text`, or -1.
int HexNumber(const char *text, const char *end) {
    int number = 0;
    if (end - text < 4) return -1;
    for (int i = 0; i < 4; i++) {
        const int digit = HexDigit(text[i]);
        if (digit < 0) return -1;
        number = number * 16 + digit;
    }
    return number;
}

Outlook Worse(Outlook a, Outlook b) { return a > b ? a : b; }

// `at` is behind the opening quote, and then behind the closing one.
Outlook LookAtString(const char **at, const char *end) {
    Outlook outlook = Outlook::kFits;
    int high = 0;  // a surrogate that waits for its other half
    const char *c = *at;

    while (c < end && *c != '"') {
        if (*c != '\\') {
            if (high != 0) return Outlook::kHopeless;
            c++;
            continue;
        }
        c++;
        if (c == end) return Outlook::kHopeless;
        if (*c++ != 'u') {
            if (high != 0) return Outlook::kHopeless;
            continue;
        }
        const int number = HexNumber(c, end);
        if (number <= 0) return Outlook::kHopeless;
        c += 4;
        const bool low = number >= 0xDC00 && number <= 0xDFFF;
        if (low != (high != 0)) return Outlook::kHopeless;
        high = number >= 0xD800 && number <= 0xDBFF ? number : 0;
        if (number > 0x7F && GetDatabaseEncoding() != PG_UTF8) outlook = Outlook::kUnsure;
    }
    if (c == end || high != 0) return Outlook::kHopeless;
    *at = c + 1;
    return outlook;
}

Outlook LookAtNumber(const char **at, const char *end) {
    const char *c = *at;
    int exponent = -1;
    while (c < end && std::strchr("+-.0123456789eE", *c) != nullptr) {
        if (*c == 'e' || *c == 'E')
            exponent = 0;
        else if (exponent >= 0 && *c != '+' && *c != '-')
            exponent++;
        c++;
    }
    const bool sure = c - *at <= kSureNumber && exponent <= kSureExponent;
    *at = c;
    return sure ? Outlook::kFits : Outlook::kUnsure;
}

Outlook LookAt(const char *text, Size length) {
    Outlook outlook = Outlook::kFits;
    const char *end = text + length;
    int depth = 0;

    for (const char *c = text; c < end && outlook != Outlook::kHopeless;) {
        CHECK_FOR_INTERRUPTS();
        switch (*c) {
            case '"':
                c++;
                outlook = Worse(outlook, LookAtString(&c, end));
                break;
            case '-':
            case '0':
            case '1':
            case '2':
            case '3':
            case '4':
            case '5':
            case '6':
            case '7':
            case '8':
            case '9':
                outlook = Worse(outlook, LookAtNumber(&c, end));
                break;
            case '[':
            case '{':
                if (++depth > kSureDepth) outlook = Worse(outlook, Outlook::kUnsure);
                c++;
                break;
            case ']':
            case '}':
                depth--;
                c++;
                break;
            default:
                c++;
        }
    }
    return outlook;
}

bool BlamesText(int sqlstate) {
    return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_DATA_EXCEPTION ||
           ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_PROGRAM_LIMIT_EXCEEDED || sqlstate == ERRCODE_FEATURE_NOT_SUPPORTED;
}

// NULL where the text is at fault.
Jsonb *TryToParse(char *text) {
    Jsonb *parsed = nullptr;
    ErrorData *error = nullptr;
    if (pg::InSubtransaction([&] { parsed = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text))); },
                             &error))
        return parsed;
    if (!BlamesText(error->sqlerrcode)) ReThrowError(error);
    FreeErrorData(error);
    return nullptr;
}

}  // namespace

JEntry AppendJsonText(JsonBuffer *buffer, const char *text, Size length) {
    const Outlook outlook = LookAt(text, length);
    if (outlook == Outlook::kHopeless) return AppendString(buffer, text, length);

    char *copy = pnstrdup(text, length);
    Jsonb *parsed = outlook == Outlook::kFits ? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(copy)))
                                              : TryToParse(copy);
    return parsed != nullptr ? AppendJsonb(buffer, parsed) : AppendString(buffer, text, length);
}

}  // namespace herald
