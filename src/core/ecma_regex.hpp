// Regular expressions of JSON Schema are those of ECMA-262 with the flag u. This turns one into an advanced
// regular expression of PostgreSQL (to be compiled under the C collation) that matches the same strings,
// or says why there is none.
//
// Only whether there is a match counts: groups capture nothing, lazy quantifiers become greedy ones. What
// could take a time that is not bounded by the length of the text is refused: back references, and look-around
// within look-around.

#pragma once

#include <cstddef>
#include <string_view>

namespace herald::core {

struct RegexTranslation {
    const char *fault;   // NULL: translated; else what is wrong: "has ..."
    bool unsupported;    // correct ECMA-262, but nothing that PostgreSQL can do (in a bounded time)
    std::size_t offset;  // of the fault, in bytes
    std::size_t length;  // of the translation, also where it exceeds the capacity
};

// `utf8`: the text is UTF-8; else any other encoding, of which only ASCII is understood.
// Writes no more than `capacity` bytes, without a zero byte at the end.
RegexTranslation TranslateEcmaRegex(std::string_view pattern, bool utf8, char *out, std::size_t capacity);

}  // namespace herald::core
