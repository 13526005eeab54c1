// URIs by RFC 3986: taking them apart, and resolving one against another.

#pragma once

#include <cstddef>
#include <string_view>

namespace herald::core {

// The parts as they stand in the text, without their delimiters; `has_` tells an empty part from none.
struct UriParts {
    std::string_view scheme;
    std::string_view authority;
    std::string_view path;
    std::string_view query;
    std::string_view fragment;
    bool has_scheme;
    bool has_authority;
    bool has_query;
    bool has_fragment;
};

// Takes any text apart; nothing is checked.
UriParts SplitUri(std::string_view text);

// Writes what `reference` means where `base` is the base, without its fragment. `out` must have room for
// both and two bytes more. Returns the length.
std::size_t ResolveUri(std::string_view base, std::string_view reference, char *out);

// Writes the text without its %-escapes; `out` must have room for as many bytes. Returns the length, or -1
// where an escape is wrong.
std::ptrdiff_t DecodePercent(std::string_view text, char *out);

}  // namespace herald::core
