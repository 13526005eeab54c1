#include "core/formats.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

namespace {

using Texts = std::initializer_list<const char *>;

void Check(const char *format, Texts right, Texts wrong) {
    herald::core::FormatCheck check = herald::core::FormatByName(format);
    ASSERT_NE(check, nullptr) << format;
    for (const char *text : right) EXPECT_TRUE(check(text)) << format << ": " << text;
    for (const char *text : wrong) EXPECT_FALSE(check(text)) << format << ": " << text;
    // Anything cut short is dealt with.
    for (const char *text : right)
        for (std::string part(text); !part.empty(); part.pop_back()) (void)check(part);
}

}  // namespace

TEST(Formats, UnknownOnesAreNotThere) {
    EXPECT_EQ(herald::core::FormatByName("colour"), nullptr);
    EXPECT_EQ(herald::core::FormatByName("idn-hostname"), nullptr);
    EXPECT_EQ(herald::core::FormatByName(""), nullptr);
}

TEST(Formats, DatesAndTimes) {
    Check("date", {"2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"},
          {"", "today", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-04-31", "2024-1-1", "20240101",
           "2024-01-01 ", "2024-01-01T"});
    Check("time",
          {"00:00:00Z", "23:59:59.123456789z", "12:00:00+23:59", "23:59:60Z", "00:59:60+01:00", "22:59:60-01:00"},
          {"", "24:00:00Z", "00:60:00Z", "00:00:61Z", "00:00:00", "00:00:00.Z", "00:00:00+24:00", "00:00:00+01",
           "12:00:60Z", "23:59:60+01:00"});
    Check("date-time", {"2024-02-29T00:00:00Z", "2024-02-29t23:59:59.5-08:00"},
          {"", "2024-02-29 00:00:00Z", "2024-02-29", "2023-02-29T00:00:00Z", "2024-02-29T"});
    Check("duration", {"P1Y2M3DT4H5M6S", "P1D", "PT0S", "P4W", "PT1H"},
          {"", "P", "PT", "P1", "1D", "P1YT", "P1D2H", "PT1D", "P1Y1D", "PT1H1S", "P1W1D", "P1S", "P1M1Y"});
}

TEST(Formats, NamesAndAddresses) {
    Check("ipv4", {"0.0.0.0", "255.255.255.255"},
          {"", "256.0.0.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4 ", "1..2.3", "0x7f.0.0.1"});
    Check("ipv6", {"::", "::1", "1::", "1:2:3:4:5:6:7:8", "::ffff:192.168.0.1", "1::8", "1:2:3:4:5:6:1.2.3.4"},
          {"", ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "1::2::3", "::1.2.3",
           "1:2:3:4:5:6:7:1.2.3.4", "fe80::1%eth0", ":1", "1:", "::g"});
    Check("hostname",
          {"a", "www.example.org", "xn--4gbwdl.xn--wgbh1c", "1a", "a-b", "ab--c", "r3---sn-4g5e6nsz.googlevideo.com"},
          {"", ".", "a.", "-a", "a-", "a_b", "ab--", "--ab", "ö", "a..b",
           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"});
    Check("email",
          {"a@b", "a.b+c@example.org", "\"a b\"@example.org", "a@[127.0.0.1]", "a@[IPv6:::1]", "a@[ipv6:::1]", "~@a"},
          {"", "a", "@b", "a@", ".a@b", "a.@b", "a..b@c", "a@[127.0.0.300]", "a@[IPv6:1]", "\"a@b", "a b@c", "ö@b"});
    Check("idn-email", {"실례@실례.테스트", "a@b"}, {"", "실례", "a@ab--ö"});
    Check("uuid", {"2EB8AA08-aa98-11ea-b4aa-73b441d16380"},
          {"", "2eb8aa08aa9811eab4aa73b441d16380", "{2eb8aa08-aa98-11ea-b4aa-73b441d1638}",
           "2eb8aa08-aa98-11ea-b4aa-73b441d1638g"});
}

TEST(Formats, References) {
    Check("uri", {"http://a", "urn:isbn:1", "http://u:p@[::1]:80/a%20b?q#f", "mailto:a@b", "a:", "http://a:/"},
          {"", "/a", "a", "http://a b", "http://[::1", "http://a:x", "http://a/%2", "http://a/{}", "1a:b", "http://ö",
           "://a", "http://[v1]"});
    Check("uri-reference", {"", "a/b", "../a", "#f", "?q", "//a/b"}, {"a b", "\\", "1:2", "#ö"});
    Check("iri", {"http://ö.de/ü?é#à"}, {"", "/ö", "http://ö b"});
    Check("iri-reference", {"ö", "#ö"}, {"\\ö"});
    Check(
        "uri-template",
        {"", "a{b}", "{+a,b*,c:3}", "{#a}", "a'b", "a%41b", "{a.b}", "{%41}", "{v:9999}", "{a,b*}", "\xf0\x9f\x98\x80"},
        {"{",     "}",      "{}",        "{a",   "a{b}}",  "{a b}", "<",    "{a,,b}", "{a,}",
         "{v:0}", "{v:01}", "{v:10000}", "{v:}", "{v:1*}", "{v**}", "{a.}", "{.}",    "{a..b}",
         "{%}",   "{%4}",   "{%GG}",     "a%",   "a%4",    "a%GG",  "{a=b}"});
    Check("json-pointer", {"", "/", "/a~0b~1c/0", "/ö"}, {"a", "/~", "/~2", "#/a"});
    Check("relative-json-pointer", {"0", "1/a", "12#"}, {"", "/a", "01", "-1", "1a", "0##"});
}

// What grows with the square of a text takes very long for one of 4 MB. A check of a group, a segment or a variable must not look
// at all that follows.
TEST(Formats, LongTextsTakeTimeInProportion) {
    constexpr const char *kFormats[] = {"date",
                                        "time",
                                        "date-time",
                                        "duration",
                                        "email",
                                        "idn-email",
                                        "hostname",
                                        "ipv4",
                                        "ipv6",
                                        "uri",
                                        "uri-reference",
                                        "iri",
                                        "iri-reference",
                                        "uri-template",
                                        "uuid",
                                        "json-pointer",
                                        "relative-json-pointer"};
    constexpr const char *kBegins[] = {"",  "http://",   "http://[", "a@[IPv6:", "{",
                                       "P", "00:00:00.", "\"",       "a@",       "[v1."};
    constexpr const char *kPieces[] = {"1:", "1",   "1.",  "a.",  "::", "a,", "{a}", "{",
                                       "}",  "%41", "/..", "/~0", "@",  "1Y", "\\a", "?#"};
    for (const char *piece : kPieces) {
        std::string text;
        while (text.size() < 4 * 1024 * 1024) text += piece;
        for (const char *begin : kBegins) {
            const std::string whole = begin + text;
            for (const char *format : kFormats) (void)herald::core::FormatByName(format)(whole);
        }
    }
}

TEST(Formats, NoAddressIsLong) {
    Check("ipv6", {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "0000:0000:0000:0000:0000:0000:0000:0000"},
          {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"});
}
