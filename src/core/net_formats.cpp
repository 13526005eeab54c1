// The formats of names and addresses, see formats.hpp.

#include "core/ascii.hpp"
#include "core/formats.hpp"
#include "core/uri.hpp"

namespace herald::core {

namespace {

enum class Alphabet { kAscii, kInternational };

bool IsOneOf(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

bool IsUnreserved(char c) { return IsAlphanumeric(c) || IsOneOf(c, "-._~"); }

bool IsEscape(std::string_view text) { return text.size() >= 3 && text[0] == '%' && IsHex(text[1]) && IsHex(text[2]); }

// Unreserved characters, sub-delims, those in `more`, and %-escapes.
bool IsUriText(std::string_view text, std::string_view more, Alphabet alphabet) {
    for (std::size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        if (c == '%') {
            if (!IsEscape(text.substr(i))) return false;
            i += 2;
        } else if (!IsAscii(c)) {
            if (alphabet == Alphabet::kAscii) return false;
        } else if (!IsUnreserved(c) && !IsOneOf(c, "!$&'()*+,;=") && !IsOneOf(c, more)) {
            return false;
        }
    }
    return true;
}

bool IsFutureAddress(std::string_view text) {
    if (text.size() < 4 || (text[0] != 'v' && text[0] != 'V')) return false;
    const std::size_t dot = text.find('.');
    if (dot == std::string_view::npos || dot == 1 || dot + 1 == text.size()) return false;
    for (char c : text.substr(1, dot - 1))
        if (!IsHex(c)) return false;
    for (char c : text.substr(dot + 1))
        if (!IsUnreserved(c) && !IsOneOf(c, "!$&'()*+,;=:")) return false;
    return true;
}

bool IsAuthority(std::string_view text, Alphabet alphabet) {
    const std::size_t at = text.rfind('@');
    if (at != std::string_view::npos) {
        if (!IsUriText(text.substr(0, at), ":", alphabet)) return false;
        text.remove_prefix(at + 1);
    }
    std::string_view port;
    if (!text.empty() && text.front() == '[') {
        const std::size_t end = text.find(']');
        if (end == std::string_view::npos) return false;
        const std::string_view address = text.substr(1, end - 1);
        if (!IsIpv6(address) && !IsFutureAddress(address)) return false;
        port = text.substr(end + 1);
        if (!port.empty() && port.front() != ':') return false;
    } else {
        const std::size_t colon = text.find(':');
        if (!IsUriText(text.substr(0, colon), "", alphabet)) return false;
        if (colon != std::string_view::npos) port = text.substr(colon);
    }
    if (!port.empty()) port.remove_prefix(1);
    for (char c : port)
        if (!IsDigit(c)) return false;
    return true;
}

bool IsReference(std::string_view text, Alphabet alphabet, bool absolute) {
    const UriParts parts = SplitUri(text);
    if (absolute && !parts.has_scheme) return false;
    for (char c : parts.scheme)
        if (!IsAlphanumeric(c) && !IsOneOf(c, "+-.")) return false;
    if (parts.has_authority && !IsAuthority(parts.authority, alphabet)) return false;
    // Else the first segment would be a scheme.
    if (!parts.has_scheme && !parts.has_authority &&
        parts.path.substr(0, parts.path.find('/')).find(':') != std::string_view::npos)
        return false;
    return IsUriText(parts.path, ":@/", alphabet) && IsUriText(parts.query, ":@/?", alphabet) &&
           IsUriText(parts.fragment, ":@/?", alphabet);
}

bool IsLocalPart(std::string_view text, Alphabet alphabet) {
    if (text.empty()) return false;
    if (text.front() == '"') {
        if (text.size() < 2 || text.back() != '"') return false;
        for (std::size_t i = 1; i + 1 < text.size(); i++) {
            const char c = text[i];
            if (!IsAscii(c) ? alphabet == Alphabet::kAscii : (c < ' ' || c == 127 || c == '"')) return false;
            if (c == '\\' && ++i + 1 >= text.size()) return false;
        }
        return true;
    }
    bool after_dot = true;
    for (char c : text) {
        if (c == '.' && after_dot) return false;
        const bool atom =
            IsAscii(c) ? IsAlphanumeric(c) || IsOneOf(c, "!#$%&'*+-/=?^_`{|}~") : alphabet == Alphabet::kInternational;
        if (c != '.' && !atom) return false;
        after_dot = c == '.';
    }
    return !after_dot;
}

bool IsHostnameOf(std::string_view text, Alphabet alphabet) {
    if (text.empty() || text.size() > 253) return false;
    while (true) {
        const std::size_t dot = text.find('.');
        const std::string_view label = text.substr(0, dot);
        if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
        bool is_ascii = true;
        for (char c : label) {
            if (IsAscii(c) ? !IsAlphanumeric(c) && c != '-' : alphabet == Alphabet::kAscii) return false;
            is_ascii = is_ascii && IsAscii(c);
        }
        // Names of hosts have two hyphens in this place now and then; those that would have to be encoded may not.
        if (!is_ascii && label.size() >= 4 && label[2] == '-' && label[3] == '-') return false;
        if (dot == std::string_view::npos) return true;
        text.remove_prefix(dot + 1);
    }
}

// The letters of a tag may be of either case (RFC 5234).
bool IsIpv6Tagged(std::string_view text) {
    return text.size() >= 5 && (text[0] == 'I' || text[0] == 'i') && (text[1] == 'P' || text[1] == 'p') &&
           (text[2] == 'V' || text[2] == 'v') && text.substr(3, 2) == "6:";
}

bool IsMailbox(std::string_view text, Alphabet alphabet) {
    const std::size_t at = text.rfind('@');
    if (at == std::string_view::npos || !IsLocalPart(text.substr(0, at), alphabet)) return false;
    std::string_view domain = text.substr(at + 1);
    if (domain.empty() || domain.front() != '[') return IsHostnameOf(domain, alphabet);
    if (domain.back() != ']') return false;
    domain = domain.substr(1, domain.size() - 2);
    return IsIpv6Tagged(domain) ? IsIpv6(domain.substr(5)) : IsIpv4(domain);
}

// RFC 6570; an apostrophe is allowed by its erratum 6937.
bool IsTemplateLiteral(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        if (c == '%' && !IsEscape(text.substr(i))) return false;
        if (IsAscii(c) && (c <= ' ' || c == 127 || IsOneOf(c, "\"<>\\^`|"))) return false;
    }
    return true;
}

// A name, whose parts are separated by dots, and an asterisk or how many characters of the value are wanted.
bool IsTemplateVariable(std::string_view text) {
    if (!text.empty() && text.back() == '*') {
        text.remove_suffix(1);
    } else if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
        const std::string_view length = text.substr(colon + 1);
        if (length.empty() || length.size() > 4 || length.front() == '0') return false;
        for (char c : length)
            if (!IsDigit(c)) return false;
        text = text.substr(0, colon);
    }
    bool after_dot = true;
    for (std::size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        if (c == '.' && after_dot) return false;
        after_dot = c == '.';
        if (IsEscape(text.substr(i)))
            i += 2;
        else if (!IsAlphanumeric(c) && c != '_' && c != '.')
            return false;
    }
    return !after_dot;
}

}  // namespace

bool IsUri(std::string_view text) { return IsReference(text, Alphabet::kAscii, true); }
bool IsIri(std::string_view text) { return IsReference(text, Alphabet::kInternational, true); }
bool IsUriReference(std::string_view text) { return IsReference(text, Alphabet::kAscii, false); }
bool IsIriReference(std::string_view text) { return IsReference(text, Alphabet::kInternational, false); }

bool IsUriTemplate(std::string_view text) {
    while (!text.empty()) {
        const std::size_t open = text.find_first_of("{}");
        if (!IsTemplateLiteral(text.substr(0, open))) return false;
        if (open == std::string_view::npos) return true;
        const std::size_t close = text.find('}');
        if (text[open] == '}' || close == std::string_view::npos) return false;
        std::string_view expression = text.substr(open + 1, close - open - 1);
        if (!expression.empty() && IsOneOf(expression.front(), "+#./;?&=,!@|")) expression.remove_prefix(1);
        while (true) {
            const std::size_t comma = expression.find(',');
            if (!IsTemplateVariable(expression.substr(0, comma))) return false;
            if (comma == std::string_view::npos) break;
            expression.remove_prefix(comma + 1);
        }
        text.remove_prefix(close + 1);
    }
    return true;
}

bool IsHostname(std::string_view text) { return IsHostnameOf(text, Alphabet::kAscii); }
bool IsEmail(std::string_view text) { return IsMailbox(text, Alphabet::kAscii); }
bool IsInternationalEmail(std::string_view text) { return IsMailbox(text, Alphabet::kInternational); }

bool IsIpv4(std::string_view text) {
    for (int part = 0; part < 4; part++) {
        int number = 0;
        std::size_t digits = 0;
        for (; digits < text.size() && digits < 3 && IsDigit(text[digits]); digits++)
            number = number * 10 + (text[digits] - '0');
        if (digits == 0 || number > 255 || (digits > 1 && text[0] == '0')) return false;
        text.remove_prefix(digits);
        if (part == 3) return text.empty();
        if (text.empty() || text.front() != '.') return false;
        text.remove_prefix(1);
    }
    return false;
}

bool IsIpv6(std::string_view text) {
    // Eight groups of four digits, of which the last two may be an IPv4 address. What is longer is not looked at: each
    // group looks at all that follows.
    constexpr std::size_t kLongest = 45;
    int groups = 0;
    if (text.size() > kLongest) return false;
    bool shortened = false;
    if (text.substr(0, 2) == "::") {
        shortened = true;
        text.remove_prefix(2);
        if (text.empty()) return true;
    }
    while (true) {
        if (text.find('.') != std::string_view::npos && text.find(':') == std::string_view::npos) {
            if (!IsIpv4(text)) return false;
            groups += 2;
            break;
        }
        std::size_t digits = 0;
        while (digits < text.size() && IsHex(text[digits])) digits++;
        if (digits == 0 || digits > 4) return false;
        text.remove_prefix(digits);
        groups++;
        if (text.empty()) break;
        if (text.front() != ':') return false;
        text.remove_prefix(1);
        if (!text.empty() && text.front() == ':') {
            if (shortened) return false;
            shortened = true;
            text.remove_prefix(1);
            if (text.empty()) break;
        }
    }
    return shortened ? groups <= 7 : groups == 8;
}

bool IsUuid(std::string_view text) {
    if (text.size() != 36) return false;
    for (std::size_t i = 0; i < text.size(); i++) {
        const bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
        if (hyphen ? text[i] != '-' : !IsHex(text[i])) return false;
    }
    return true;
}

bool IsJsonPointer(std::string_view text) {
    if (!text.empty() && text.front() != '/') return false;
    for (std::size_t i = 0; i < text.size(); i++)
        if (text[i] == '~' && (i + 1 >= text.size() || !IsOneOf(text[i + 1], "01"))) return false;
    return true;
}

bool IsRelativeJsonPointer(std::string_view text) {
    std::size_t digits = 0;
    while (digits < text.size() && IsDigit(text[digits])) digits++;
    if (digits == 0 || (digits > 1 && text[0] == '0')) return false;
    text.remove_prefix(digits);
    return text == "#" || IsJsonPointer(text);
}

FormatCheck FormatByName(std::string_view name) {
    constexpr struct {
        std::string_view name;
        FormatCheck check;
    } kFormats[] = {
        {"date", IsDate},
        {"time", IsTime},
        {"date-time", IsDateTime},
        {"duration", IsDuration},
        {"email", IsEmail},
        {"idn-email", IsInternationalEmail},
        {"hostname", IsHostname},
        {"ipv4", IsIpv4},
        {"ipv6", IsIpv6},
        {"uri", IsUri},
        {"uri-reference", IsUriReference},
        {"iri", IsIri},
        {"iri-reference", IsIriReference},
        {"uri-template", IsUriTemplate},
        {"uuid", IsUuid},
        {"json-pointer", IsJsonPointer},
        {"relative-json-pointer", IsRelativeJsonPointer},
    };
    for (const auto &format : kFormats)
        if (format.name == name) return format.check;
    return nullptr;
}

}  // namespace herald::core
