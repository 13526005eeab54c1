// See pattern.hpp.

#include "schema/pattern.hpp"

extern "C" {
#include "catalog/pg_collation.h"
#include "mb/pg_wchar.h"
#include "regex/regex.h"
#include "regex/regexport.h"
}

namespace herald {

struct Pattern {
    regex_t regex;
    MemoryContextCallback free;
};

namespace {

// Compiling takes memory and time that grow fast with some patterns.
constexpr std::size_t kMaxPatternBytes = 2048;
constexpr int kMaxStates = 10000;
// What a pattern takes besides its states, in states.
constexpr int kPatternOverhead = 100;
// Texts of up to so many characters need no memory of their own.
constexpr std::size_t kShortText = 256;

void FreeRegex(void *pattern) { pg_regfree(&static_cast<Pattern *>(pattern)->regex); }

bool IsUtf8() { return GetDatabaseEncoding() == PG_UTF8; }

pg_wchar *WideBuffer(std::size_t bytes, pg_wchar (&room)[kShortText + 1]) {
    if (bytes <= kShortText) return room;
    return static_cast<pg_wchar *>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_wchar) * (bytes + 1)));
}

}  // namespace

Pattern *CompilePattern(std::string_view source, MemoryContext context, int *space, PatternFault *fault) {
    *fault = {nullptr, false};
    if (source.size() > kMaxPatternBytes) {
        *fault = {"has more than 2048 bytes", true};
        return nullptr;
    }
    core::RegexTranslation translation = core::TranslateEcmaRegex(source, IsUtf8(), nullptr, 0);
    if (translation.fault != nullptr) {
        *fault = {psprintf("%s, at byte %zu", translation.fault, translation.offset + 1), translation.unsupported};
        return nullptr;
    }
    char *translated = static_cast<char *>(palloc(translation.length + 1));
    (void)core::TranslateEcmaRegex(source, IsUtf8(), translated, translation.length);
    translated[translation.length] = '\0';
    pg_wchar *wide = static_cast<pg_wchar *>(palloc(sizeof(pg_wchar) * (translation.length + 1)));
    const int length = pg_mb2wchar_with_len(translated, wide, static_cast<int>(translation.length));

    MemoryContext caller = MemoryContextSwitchTo(context);
    Pattern *pattern = static_cast<Pattern *>(palloc0(sizeof(Pattern)));
    const int result =
        pg_regcomp(&pattern->regex, wide, static_cast<size_t>(length), REG_ADVANCED | REG_NOSUB, C_COLLATION_OID);
    MemoryContextSwitchTo(caller);
    pfree(wide);
    pfree(translated);
    if (result != REG_OKAY) {
        char *text = static_cast<char *>(palloc(100));
        CHECK_FOR_INTERRUPTS();
        pg_regerror(result, &pattern->regex, text, 100);
        *fault = {psprintf("is refused by PostgreSQL: %s", text), true};
        return nullptr;
    }
    pattern->free.func = FreeRegex;
    pattern->free.arg = pattern;
    MemoryContextRegisterResetCallback(context, &pattern->free);
    const int states = pg_reg_getnumstates(&pattern->regex);
    *space -= states + kPatternOverhead;
    if (states > kMaxStates)
        *fault = {"makes an automaton that is too large", true};
    else if (*space < 0)
        *fault = {"and those before it are too large together", true};
    return fault->fault == nullptr ? pattern : nullptr;
}

bool MatchesPattern(const Pattern *pattern, std::string_view text) {
    pg_wchar room[kShortText + 1];
    pg_wchar *wide = WideBuffer(text.size(), room);
    const int length = pg_mb2wchar_with_len(text.data(), wide, static_cast<int>(text.size()));
    const int result = pg_regexec(const_cast<regex_t *>(&pattern->regex), wide, static_cast<size_t>(length), 0, nullptr,
                                  0, nullptr, 0);
    if (wide != room) pfree(wide);
    if (result == REG_OKAY || result == REG_NOMATCH) return result == REG_OKAY;

    char why[100];
    CHECK_FOR_INTERRUPTS();
    pg_regerror(result, &pattern->regex, why, sizeof(why));
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_REGULAR_EXPRESSION), errmsg("regular expression of a schema failed: %s", why)));
    pg_unreachable();
}

bool IsEcmaRegex(std::string_view text) {
    const core::RegexTranslation translation = core::TranslateEcmaRegex(text, IsUtf8(), nullptr, 0);
    return translation.fault == nullptr || translation.unsupported;
}

}  // namespace herald
