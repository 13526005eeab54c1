// Values are shown in one way, whatever the session's settings are: else whoever writes could blur what others read
// of it (extra_float_digits = -15 leaves one digit of a number), and equal values would not look equal.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// Sets what differs until UnpinOutputSettings gets what this has returned; after an ERROR the server does that.
int PinOutputSettings();
void UnpinOutputSettings(int level);

}  // namespace herald
