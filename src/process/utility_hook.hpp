// Commands of other sessions that concern us: those that need a database without our processes, and those
// whose end must wake somebody.

#pragma once

namespace herald {

void InitCommandHook();  // from _PG_init

}  // namespace herald
