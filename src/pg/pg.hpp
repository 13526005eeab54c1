// The prelude: the first include of every file that talks to PostgreSQL. C++ headers come first,
// because postgres.h redefines snprintf and friends as macros.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <string_view>
#include <type_traits>

extern "C" {
#include "postgres.h"

// The server-dev packages don't bring the gssapi and openssl headers that libpq/libpq.h would pull.
#undef ENABLE_GSS
#undef USE_OPENSSL

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
}

#include "pg/compat.hpp"

// PostgreSQL's are macros, which evaluate the one they choose twice: a call there would be made twice.
#undef Min
#undef Max

template <typename A, typename B>
constexpr std::common_type_t<A, B> Min(A a, B b) {
    const std::common_type_t<A, B> left = a, right = b;
    return left < right ? left : right;
}

template <typename A, typename B>
constexpr std::common_type_t<A, B> Max(A a, B b) {
    const std::common_type_t<A, B> left = a, right = b;
    return left > right ? left : right;
}

namespace herald::pg {

// Copies as much of a string as fits, and ends it with a zero byte. (strlcpy is a macro, a function of
// PostgreSQL or one of the C library, depending on where the headers were made.)
inline void CopyString(char *to, const char *from, Size size) {
    Size length = std::strlen(from);
    if (length >= size) length = size - 1;
    std::memcpy(to, from, length);
    to[length] = '\0';
}

}  // namespace herald::pg
