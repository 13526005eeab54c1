#include "core/ecma_regex.hpp"

#include <gtest/gtest.h>

#include <string>

using herald::core::RegexTranslation;
using herald::core::TranslateEcmaRegex;

namespace {

std::string Translated(std::string_view pattern, bool utf8 = true) {
    RegexTranslation needed = TranslateEcmaRegex(pattern, utf8, nullptr, 0);
    if (needed.fault != nullptr) return std::string(needed.unsupported ? "unsupported: " : "wrong: ") + needed.fault;
    std::string out(needed.length, '?');
    RegexTranslation done = TranslateEcmaRegex(pattern, utf8, out.data(), out.size());
    EXPECT_EQ(done.length, needed.length);
    return out;
}

bool IsWrong(std::string_view pattern) { return Translated(pattern).rfind("wrong: ", 0) == 0; }
bool IsUnsupported(std::string_view pattern) { return Translated(pattern).rfind("unsupported: ", 0) == 0; }

}  // namespace

TEST(EcmaRegex, KeepsWhatIsTheSame) {
    EXPECT_EQ(Translated("^abc$"), "^abc$");
    EXPECT_EQ(Translated("a*b+c?d{2}e{2,}f{2,3}"), "a*b+c?d{2}e{2,}f{2,3}");
    EXPECT_EQ(Translated("a|b||"), "a|b||");
    EXPECT_EQ(Translated("größe"), "größe");
    EXPECT_EQ(Translated(""), "");
}

TEST(EcmaRegex, CapturesNothingAndIsNeverLazy) {
    EXPECT_EQ(Translated("(a)(?:b)(?<name>c)"), "(?:a)(?:b)(?:c)");
    EXPECT_EQ(Translated("a*?b+?c??d{2}?"), "a*b+c?d{2}");
    EXPECT_EQ(Translated("(?=a)(?!b)(?<=c)(?<!d)"), "(?=a)(?!b)(?<=c)(?<!d)");
}

TEST(EcmaRegex, WritesClassesAndEscapesInTheOtherDialect) {
    EXPECT_EQ(Translated("\\d\\D\\w\\W"), "[0-9]\\D[A-Za-z0-9_]\\W");
    EXPECT_EQ(Translated("\\bx\\B"), "\\yx\\Y");
    EXPECT_EQ(Translated("[\\b\\d]"), "[\\u00080-9]");
    EXPECT_EQ(Translated("."), "[^\\n\\r\\u2028\\u2029]");
    EXPECT_EQ(Translated(".", false), "[^\\n\\r]");
    EXPECT_EQ(Translated("\\x41\\u0042\\u{1F432}\\cA\\0"), "AB\\U0001f432\\u0001\\u0000");
    EXPECT_EQ(Translated("\\uD83D\\uDC32"), "\\U0001f432");
    EXPECT_EQ(Translated("\\/\\.\\\\\\_"), "\\u002f\\u002e\\u005c\\u005f");
}

TEST(EcmaRegex, NothingInAClassMeansMoreThanItself) {
    EXPECT_EQ(Translated("[[:alpha:]]"), "[\\u005b\\u003aalpha\\u003a]\\u005d");
    EXPECT_EQ(Translated("[a-c-]"), "[a-c\\u002d]");
    EXPECT_EQ(Translated("[\\w-x]"), "[A-Za-z0-9_\\u002dx]");
    EXPECT_EQ(Translated("[^é-ö]"), "[^é-ö]");
    EXPECT_EQ(Translated("[]"), "(?:(?!))");
    EXPECT_EQ(Translated("[^]"), "(?:.)");
}

TEST(EcmaRegex, BracesThatAreNoBoundsAreBraces) {
    EXPECT_EQ(Translated("a{,2}"), "a\\u007b\\u002c2\\u007d");
    EXPECT_EQ(Translated("{x}"), "\\u007bx\\u007d");
}

TEST(EcmaRegex, RefusesWhatIsWrong) {
    for (const char *pattern : {"(",      ")",   "[",    "[a",     "*",     "a**",         "a|*",     "^*",
                                "(?=a)*", "\\",  "\\x1", "\\u12",  "\\u{}", "\\u{110000}", "\\ud800", "\\c1",
                                "\\Z",    "\\a", "\\01", "a{2,1}", "[b-a]", "(?i)a",       "(?<>a)",  "{2}"})
        EXPECT_TRUE(IsWrong(pattern)) << pattern << ": " << Translated(pattern);
}

TEST(EcmaRegex, RefusesWhatCannotBeDone) {
    for (const char *pattern :
         {"(a)\\1", "\\k<a>", "(?=a(?!b))", "\\p{L}", "[\\P{L}]", "a{256}", "a{1,99999999999999999999}"})
        EXPECT_TRUE(IsUnsupported(pattern)) << pattern << ": " << Translated(pattern);
    EXPECT_TRUE(IsUnsupported(std::string(200, '(')));
    EXPECT_EQ(Translated("\\u00e9", false).rfind("unsupported: ", 0), 0u);
}

TEST(EcmaRegex, NeverWritesBeyondItsCapacity) {
    char out[5] = {'x', 'x', 'x', 'x', '!'};
    RegexTranslation done = TranslateEcmaRegex("\\s\\s", true, out, 4);
    EXPECT_EQ(out[4], '!');
    EXPECT_GT(done.length, 100u);
}

TEST(EcmaRegex, LongPatternsTakeTimeInProportion) {
    for (const char *piece :
         {"a", "(?<a", "(?<a>", "{1", "{1,1", "\\u{", "\\u{1", "[a", "[a]", "(a)", "a{1}", "\\ud800"}) {
        std::string pattern;
        while (pattern.size() < 2 * 1024 * 1024) pattern += piece;
        (void)TranslateEcmaRegex(pattern, true, nullptr, 0);
    }
}
