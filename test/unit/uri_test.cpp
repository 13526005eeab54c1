#include "core/uri.hpp"

#include <gtest/gtest.h>

#include <string>

namespace {

std::string Resolved(std::string_view base, std::string_view reference) {
    std::string out(base.size() + reference.size() + 2, '?');
    out.resize(herald::core::ResolveUri(base, reference, out.data()));
    return out;
}

}  // namespace

// RFC 3986, 5.4, without fragments.
TEST(Uri, ResolvesReferences) {
    const char *base = "http://a/b/c/d;p?q";
    const char *const cases[][2] = {{"g:h", "g:h"},
                                    {"g", "http://a/b/c/g"},
                                    {"./g", "http://a/b/c/g"},
                                    {"g/", "http://a/b/c/g/"},
                                    {"/g", "http://a/g"},
                                    {"//g", "http://g"},
                                    {"?y", "http://a/b/c/d;p?y"},
                                    {"g?y", "http://a/b/c/g?y"},
                                    {"#s", "http://a/b/c/d;p?q"},
                                    {"g#s", "http://a/b/c/g"},
                                    {";x", "http://a/b/c/;x"},
                                    {"", "http://a/b/c/d;p?q"},
                                    {".", "http://a/b/c/"},
                                    {"./", "http://a/b/c/"},
                                    {"..", "http://a/b/"},
                                    {"../", "http://a/b/"},
                                    {"../g", "http://a/b/g"},
                                    {"../..", "http://a/"},
                                    {"../../g", "http://a/g"},
                                    {"../../../g", "http://a/g"},
                                    {"/./g", "http://a/g"},
                                    {"/../g", "http://a/g"},
                                    {"g.", "http://a/b/c/g."},
                                    {"..g", "http://a/b/c/..g"},
                                    {"./../g", "http://a/b/g"},
                                    {"./g/.", "http://a/b/c/g/"},
                                    {"g/./h", "http://a/b/c/g/h"},
                                    {"g/../h", "http://a/b/c/h"},
                                    {"http:g", "http:g"}};
    for (const auto &pair : cases) EXPECT_EQ(Resolved(base, pair[0]), pair[1]) << pair[0];
}

TEST(Uri, ResolvesWithoutABaseOrAPath) {
    EXPECT_EQ(Resolved("", "a/b"), "a/b");
    EXPECT_EQ(Resolved("", ""), "");
    EXPECT_EQ(Resolved("http://a", "b"), "http://a/b");
    EXPECT_EQ(Resolved("urn:x:y", "#z"), "urn:x:y");
    EXPECT_EQ(Resolved("a/b", "../../../c"), "/c");
}

TEST(Uri, DecodesEscapes) {
    char out[16];
    EXPECT_EQ(std::string(out, static_cast<std::size_t>(herald::core::DecodePercent("a%25%7Eb", out))), "a%~b");
    EXPECT_EQ(herald::core::DecodePercent("%", out), -1);
    EXPECT_EQ(herald::core::DecodePercent("%2", out), -1);
    EXPECT_EQ(herald::core::DecodePercent("%2x", out), -1);
}
