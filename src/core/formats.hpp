// The values of the keyword "format" that JSON Schema defines, except for "regex" (see ecma_regex.hpp) and
// "idn-hostname". Strict: what a format's own standard allows, and nothing that a lenient parser would
// also take. Texts are UTF-8 or another superset of ASCII.

#pragma once

#include <string_view>

namespace herald::core {

using FormatCheck = bool (*)(std::string_view text);

// NULL: an unknown format, which everything fits.
FormatCheck FormatByName(std::string_view name);

// RFC 3339.
bool IsDate(std::string_view text);
bool IsTime(std::string_view text);
bool IsDateTime(std::string_view text);
bool IsDuration(std::string_view text);

// RFC 3986 and 3987; the last ones may be relative.
bool IsUri(std::string_view text);
bool IsIri(std::string_view text);
bool IsUriReference(std::string_view text);
bool IsIriReference(std::string_view text);
bool IsUriTemplate(std::string_view text);

// RFC 1123, 5321, 6531, 2673, 4291.
bool IsHostname(std::string_view text);
bool IsEmail(std::string_view text);
bool IsInternationalEmail(std::string_view text);
bool IsIpv4(std::string_view text);
bool IsIpv6(std::string_view text);

// RFC 4122, 6901.
bool IsUuid(std::string_view text);
bool IsJsonPointer(std::string_view text);
bool IsRelativeJsonPointer(std::string_view text);

}  // namespace herald::core
