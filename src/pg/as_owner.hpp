// A fixed statement of ours, as the owner of the extension:
//
//     const int64 count = pg::AsOwner([&] {
//         pg::SpiRun("SELECT count(*) FROM ...");
//         return pg::SpiInt8(0, 1);
//     });
//
// Inside, the search_path is pinned and the current memory context is SPI's: copy what must stay. An ERROR skips the
// way back; the abort of the (sub)transaction restores identity, settings and SPI.

#pragma once

#include <type_traits>
#include <utility>

#include "pg/identity.hpp"
#include "pg/spi.hpp"

namespace herald::pg {

template <class Body>
auto AsOwner(Body &&body) {
    const Identity caller = BecomeOwner();
    SpiBegin();
    if constexpr (std::is_void_v<std::invoke_result_t<Body>>) {
        std::forward<Body>(body)();
        SpiEnd();
        BecomeCaller(caller);
    } else {
        auto result = std::forward<Body>(body)();
        SpiEnd();
        BecomeCaller(caller);
        return result;
    }
}

}  // namespace herald::pg
