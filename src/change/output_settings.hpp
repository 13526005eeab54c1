// Values are shown in one way, whatever the session's settings are: else whoever writes could blur what others read
// of it (extra_float_digits = -15 leaves one digit of a number), and equal values would not look equal, so that the key
// of one row were several. Times with a zone are shown in UTC, money and numbers as in the locale C.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// Settings that only some types depend on: a set, of all types of a row.
using OutputNeeds = uint8;
inline constexpr OutputNeeds kNeedsZone = 1;    // TimeZone
inline constexpr OutputNeeds kNeedsLocale = 2;  // lc_* and xmlbinary: what code of users calls may ask for them
inline constexpr OutputNeeds kNeedsPath = 4;    // search_path: names of objects, which are then qualified

// What the text of values of the type depends on, by its output function.
OutputNeeds NeedsOfType(Oid type);
// What a user's cast to json may depend on besides; search_path is not pinned for it, it may have to find tables.
OutputNeeds NeedsOfCast(Oid function);

// Sets what differs until UnpinOutputSettings gets what this has returned; after an ERROR the server does that.
int PinOutputSettings(OutputNeeds needs);
void UnpinOutputSettings(int level);

// The same for the names of objects alone, while one value is shown.
int PinNames();

}  // namespace herald
