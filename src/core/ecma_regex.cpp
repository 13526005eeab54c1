// See ecma_regex.hpp. One pass over the pattern; of what is open only the kinds of groups are remembered.

#include "core/ecma_regex.hpp"

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "core/ascii.hpp"

namespace herald::core {

namespace {

constexpr int kMaxDepth = 128;
constexpr int kMaxBound = 255;  // PostgreSQL's
constexpr uint32_t kNoCode = 0xffffffff;

// Sets as they stand within brackets. Outside of ASCII only where the encoding is UTF-8.
constexpr char kDigit[] = "0-9";
constexpr char kWord[] = "A-Za-z0-9_";
constexpr char kSpace[] = " \\t-\\r\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000\\ufeff";
constexpr char kNoSpace[] =
    "\\u0001-\\u0008\\u000e-\\u001f!-\\u009f\\u00a1-\\u167f\\u1681-\\u1fff\\u200b-\\u2027\\u202a-\\u202e"
    "\\u2030-\\u205e\\u2060-\\u2fff\\u3001-\\ufefe\\uff00-\\U0010ffff";

class Translator {
public:
    Translator(std::string_view pattern, bool utf8, char *out, std::size_t capacity)
        : pattern_(pattern), utf8_(utf8), out_(out), capacity_(capacity) {}

    RegexTranslation Run() {
        while (fault_ == nullptr && at_ < pattern_.size()) Step();
        if (fault_ == nullptr && depth_ > 0) Fail("has a group that is not closed");
        return {fault_, unsupported_, fault_ != nullptr ? fault_at_ : 0, length_};
    }

private:
    // A member of a class: a character, or a set, as it is written within brackets.
    struct Member {
        bool is_set;
        uint32_t code;  // kNoCode: not known (a character outside of ASCII and UTF-8)
        char text[16];
        const char *set;
    };

    void Put(std::string_view text) {
        for (char c : text) {
            if (length_ < capacity_) out_[length_] = c;
            length_++;
        }
    }
    void Fail(const char *fault, bool unsupported = false) {
        if (fault_ != nullptr) return;
        fault_ = fault;
        fault_at_ = at_;
        unsupported_ = unsupported;
    }
    bool Looking(std::string_view text) const { return pattern_.substr(at_, text.size()) == text; }
    bool Take(std::string_view text) {
        if (!Looking(text)) return false;
        at_ += text.size();
        return true;
    }

    // Whatever means something to PostgreSQL is written by its code.
    static void WriteCode(uint32_t code, char (&text)[16]) {
        if (code < 0x80 && IsAlphanumeric(static_cast<char>(code)))
            std::snprintf(text, sizeof(text), "%c", static_cast<char>(code));
        else if (code <= 0xffff)
            std::snprintf(text, sizeof(text), "\\u%04x", code);
        else
            std::snprintf(text, sizeof(text), "\\U%08x", code);
    }

    void Step() {
        const char c = pattern_[at_];
        switch (c) {
            case '^':
            case '$':
            case '|':
                Put({&c, 1});
                at_++;
                repeatable_ = false;
                return;
            case '(':
                OpenGroup();
                return;
            case ')':
                CloseGroup();
                return;
            case '*':
            case '+':
            case '?':
                at_++;
                Quantify({&c, 1});
                return;
            case '{':
                if (Bound()) return;
                break;
            case '.':
                at_++;
                Put(utf8_ ? "[^\\n\\r\\u2028\\u2029]" : "[^\\n\\r]");
                repeatable_ = true;
                return;
            case '[':
                Class();
                return;
            case '\\':
                Escape();
                return;
            default:
                break;
        }
        // An ordinary character, or a byte of one.
        char text[16] = {c};
        if (IsAscii(c)) WriteCode(static_cast<unsigned char>(c), text);
        Put(text);
        at_++;
        repeatable_ = true;
    }

    void OpenGroup() {
        bool looks_around = true;
        const char *prefix = nullptr;
        at_++;
        if (Take("?:"))
            prefix = "(?:", looks_around = false;
        else if (Take("?="))
            prefix = "(?=";
        else if (Take("?!"))
            prefix = "(?!";
        else if (Take("?<="))
            prefix = "(?<=";
        else if (Take("?<!"))
            prefix = "(?<!";
        else if (Take("?<"))
            prefix = GroupName() ? "(?:" : nullptr, looks_around = false;
        else if (!Looking("?"))
            prefix = "(?:", looks_around = false;
        if (prefix == nullptr) return Fail("has an unknown kind of group");
        if (depth_ == kMaxDepth) return Fail("has groups nested too deep", true);
        if (looks_around && ++looking_around_ > 1)
            return Fail("looks around within a look-around, which is not bounded in time", true);
        looks_around_[depth_++] = looks_around;
        Put(prefix);
        repeatable_ = false;
    }

    bool GroupName() {
        std::size_t end = pattern_.find('>', at_);
        if (end == std::string_view::npos || end == at_) return false;
        for (std::size_t i = at_; i < end; i++) {
            const char c = pattern_[i];
            if (!IsLetter(c) && c != '_' && c != '$' && !(IsDigit(c) && i > at_) &&
                static_cast<unsigned char>(c) < 0x80)
                return false;
        }
        at_ = end + 1;
        return true;
    }

    void CloseGroup() {
        if (depth_ == 0) return Fail("closes a group that is not open");
        at_++;
        Put(")");
        repeatable_ = !looks_around_[--depth_];
        if (looks_around_[depth_]) looking_around_--;
    }

    void Quantify(std::string_view quantifier) {
        if (!repeatable_) {
            at_--;
            return Fail("repeats something that cannot be repeated");
        }
        Put(quantifier);
        (void)Take("?");
        repeatable_ = false;
    }

    // {m}, {m,} or {m,n}; anything else that begins with a brace is that brace.
    bool Bound() {
        std::size_t end = at_ + 1;
        long numbers[2] = {0, -1};
        int count = 0;
        for (; count < 2; count++) {
            std::size_t digits = 0;
            long number = 0;
            for (; end < pattern_.size() && IsDigit(pattern_[end]); end++, digits++)
                if (number <= kMaxBound) number = number * 10 + (pattern_[end] - '0');
            if (digits == 0 && count == 0) return false;
            if (digits > 0) numbers[count] = number;
            if (end >= pattern_.size()) return false;
            if (pattern_[end] == '}') break;
            if (pattern_[end] != ',' || count == 1) return false;
            end++;
        }
        if (!repeatable_) {
            Fail("repeats something that cannot be repeated");
            return true;
        }
        if (numbers[0] > kMaxBound || numbers[1] > kMaxBound) {
            Fail("repeats something more than 255 times", true);
            return true;
        }
        if (numbers[1] >= 0 && numbers[1] < numbers[0]) {
            Fail("has a bound whose end is below its beginning");
            return true;
        }
        std::string_view bound = pattern_.substr(at_, end + 1 - at_);
        at_ = end + 1;
        Quantify(bound);
        return true;
    }

    // A backslash outside of brackets.
    void Escape() {
        if (Take("\\b") || Take("\\B")) {
            Put(pattern_[at_ - 1] == 'b' ? "\\y" : "\\Y");
            repeatable_ = false;
            return;
        }
        const char c = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
        if ((c >= '1' && c <= '9') || c == 'k') return Fail("has a back reference, which is not bounded in time", true);
        Member member;
        if (!EscapedMember(&member)) return;
        repeatable_ = true;
        if (!member.is_set) return Put(member.text);
        // The complements of \d and \w can't stand within brackets as ranges.
        if (member.set[0] == '\\' && (member.set[1] == 'D' || member.set[1] == 'W')) return Put(member.set);
        Put("[");
        Put(member.set);
        Put("]");
    }

    void Class() {
        at_++;
        const bool negated = Take("^");
        repeatable_ = true;
        if (Take("]")) return Put(negated ? "(?:.)" : "(?:(?!))");
        Put(negated ? "[^" : "[");
        while (!Take("]")) {
            if (fault_ != nullptr) return;
            if (at_ >= pattern_.size()) return Fail("has a class that is not closed");
            ClassMember();
        }
        Put("]");
    }

    void ClassMember() {
        Member first;
        if (!OneMember(&first)) return;
        Put(first.is_set ? first.set : first.text);
        // A hyphen at the end, or beside a set, is one.
        if (first.is_set || !Looking("-") || at_ + 1 >= pattern_.size() || pattern_[at_ + 1] == ']') return;
        at_++;
        Member last;
        if (!OneMember(&last)) return;
        if (last.is_set) {
            Put("\\-");
            return Put(last.set);
        }
        if (first.code != kNoCode && last.code != kNoCode && last.code < first.code)
            return Fail("has a range whose end is before its beginning");
        Put("-");
        Put(last.text);
    }

    bool OneMember(Member *member) {
        if (pattern_[at_] == '\\') return EscapedMember(member);
        *member = Member{};
        const auto lead = static_cast<unsigned char>(pattern_[at_]);
        std::size_t bytes = 1;
        if (lead < 0x80) {
            member->code = lead;
            WriteCode(lead, member->text);
        } else {
            // The whole character; its code is only for the order of ranges.
            if (utf8_) bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
            if (bytes > pattern_.size() - at_) bytes = pattern_.size() - at_;
            std::memcpy(member->text, pattern_.data() + at_, bytes);
            member->text[bytes] = '\0';
            member->code = kNoCode;
        }
        at_ += bytes;
        return true;
    }

    bool Set(Member *member, const char *set) {
        member->is_set = true;
        member->set = set;
        at_ += 2;
        return true;
    }
    bool Character(Member *member, uint32_t code, std::size_t length) {
        if (code >= 0xd800 && code < 0xe000) return Fail("has half of a surrogate pair"), false;
        if (code > 0x10ffff) return Fail("has a code point above 10FFFF"), false;
        if (code >= 0x80 && !utf8_)
            return Fail("has an escape above \\u007f, which needs a database in UTF8", true), false;
        member->code = code;
        WriteCode(code, member->text);
        at_ += length;
        return true;
    }

    static uint32_t ControlOf(char c) {
        constexpr std::string_view kNames = "btnvfr";
        return 8 + static_cast<uint32_t>(kNames.find(c));
    }

    // What begins with a backslash, as it is meant both within brackets and outside.
    bool EscapedMember(Member *member) {
        *member = Member{};
        if (at_ + 1 >= pattern_.size()) return Fail("ends with a backslash"), false;
        const char c = pattern_[at_ + 1];
        switch (c) {
            case 'd':
                return Set(member, kDigit);
            case 'w':
                return Set(member, kWord);
            case 'D':
            case 'W':
                return Set(member, c == 'D' ? "\\D" : "\\W");
            case 's':
                return Set(member, utf8_ ? kSpace : " \\t-\\r");
            case 'S':
                return Set(member, utf8_ ? kNoSpace : "\\S");
            // \b only within brackets: elsewhere it is a word's boundary.
            case 'b':
            case 't':
            case 'n':
            case 'v':
            case 'f':
            case 'r':
                return Character(member, ControlOf(c), 2);
            case '0':
                if (at_ + 2 < pattern_.size() && IsDigit(pattern_[at_ + 2])) return Fail("has an octal escape"), false;
                return Character(member, 0, 2);
            case 'c':
                if (at_ + 2 >= pattern_.size() || !IsLetter(pattern_[at_ + 2]))
                    return Fail("has \\c without a letter"), false;
                return Character(member, static_cast<uint32_t>(pattern_[at_ + 2]) % 32, 3);
            case 'x':
                return Hexadecimal(member, 2);
            case 'u':
                if (at_ + 2 < pattern_.size() && pattern_[at_ + 2] == '{') return CodePoint(member);
                return Hexadecimal(member, 4);
            case 'p':
            case 'P':
                return Fail("has a class of Unicode properties, which PostgreSQL lacks", true), false;
            default:
                break;
        }
        if (IsLetter(c) || IsDigit(c)) return Fail("has an unknown escape"), false;
        // Any other character, the backslash among them, means itself.
        at_++;
        return c == '\\' ? Character(member, '\\', 1) : OneMember(member);
    }

    uint32_t HexAt(std::size_t from, std::size_t digits) const {
        uint32_t code = 0;
        if (from + digits > pattern_.size()) return kNoCode;
        for (std::size_t i = from; i < from + digits; i++) {
            const int value = HexValue(pattern_[i]);
            if (value < 0) return kNoCode;
            code = code * 16 + static_cast<uint32_t>(value);
        }
        return code;
    }

    bool Hexadecimal(Member *member, std::size_t digits) {
        uint32_t code = HexAt(at_ + 2, digits);
        if (code == kNoCode) return Fail("has an escape with too few hexadecimal digits"), false;
        std::size_t length = digits + 2;
        // Two escapes for one character.
        if (code >= 0xd800 && code < 0xdc00 && pattern_.substr(at_ + 6, 2) == "\\u") {
            const uint32_t low = HexAt(at_ + 8, 4);
            if (low != kNoCode && low >= 0xdc00 && low < 0xe000) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                length = 12;
            }
        }
        return Character(member, code, length);
    }

    bool CodePoint(Member *member) {
        const std::size_t end = pattern_.find('}', at_ + 3);
        uint32_t code = kNoCode;
        if (end != std::string_view::npos && end > at_ + 3 && end - at_ <= 9) code = HexAt(at_ + 3, end - at_ - 3);
        if (code == kNoCode) return Fail("has \\u{ without a code point"), false;
        return Character(member, code, end + 1 - at_);
    }

    std::string_view pattern_;
    bool utf8_;
    char *out_;
    std::size_t capacity_;
    std::size_t length_ = 0;
    std::size_t at_ = 0;
    const char *fault_ = nullptr;
    std::size_t fault_at_ = 0;
    bool unsupported_ = false;
    bool repeatable_ = false;  // what was written last
    int looking_around_ = 0;
    int depth_ = 0;
    bool looks_around_[kMaxDepth] = {};
};

}  // namespace

RegexTranslation TranslateEcmaRegex(std::string_view pattern, bool utf8, char *out, std::size_t capacity) {
    return Translator(pattern, utf8, out, capacity).Run();
}

}  // namespace herald::core
