// Classes of ASCII characters, whatever the locale.

#pragma once

namespace herald::core {

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }
inline bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline bool IsAlphanumeric(char c) { return IsDigit(c) || IsLetter(c); }
inline bool IsAscii(char c) { return static_cast<unsigned char>(c) < 0x80; }

// Negative: it is no hexadecimal digit.
inline int HexValue(char c) {
    if (IsDigit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}
inline bool IsHex(char c) { return HexValue(c) >= 0; }

}  // namespace herald::core
