// Patterns of a schema as PostgreSQL's regular expressions, compiled and kept with the schema.

#pragma once

#include "core/ecma_regex.hpp"
#include "pg/pg.hpp"

namespace herald {

struct Pattern;

// Why a pattern can't be used; `fault` NULL: it can.
struct PatternFault {
    const char *fault;
    bool unsupported;  // it is correct, but PostgreSQL can't do it, or not in a bounded time
};

// What the compiled patterns of a schema may take together. A few characters can make a large automaton, and it
// is made in each session that publishes.
inline constexpr int kPatternSpace = 100000;

// Takes what the pattern needs from `space`. Compiles into `context`, whose end also frees what the regular expression library took elsewhere. NULL, and
// `fault` filled, where that is not possible.
Pattern *CompilePattern(std::string_view source, MemoryContext context, int *space, PatternFault *fault);

// True where the pattern is found anywhere in the text. May be cancelled.
bool MatchesPattern(const Pattern *pattern, std::string_view text);

// The format "regex".
bool IsEcmaRegex(std::string_view text);

}  // namespace herald
