// Texts that others made, bounded to what is kept of them.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "mb/pg_wchar.h"
}

namespace herald::pg {

// The text, in at most `limit` bytes: of a longer one its beginning, up to the end of a character, and how long it
// was. In the current memory context, where it is cut; NULL stays NULL. In ASCII, as the server may have any encoding.
inline const char *ClipText(const char *value, int limit) {
    if (value == nullptr) return nullptr;
    const Size length = std::strlen(value);
    if (length <= static_cast<Size>(limit)) return value;
    char mark[64];
    const int mark_length = snprintf(mark, sizeof(mark), "... (cut, %zu bytes)", length);
    const int kept =
        pg_mbcliplen(value, static_cast<int>(Min(length, static_cast<Size>(limit) + 1)), limit - mark_length);
    return psprintf("%.*s%s", kept, value, mark);
}

}  // namespace herald::pg
