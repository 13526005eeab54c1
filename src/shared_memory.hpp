// All shared memory of the extension: requested and set up in one place.

#pragma once

namespace herald {

void InitSharedMemory();  // from _PG_init

}  // namespace herald
