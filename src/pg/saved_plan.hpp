// Statements that run so often that planning them each time would cost more than running them. The
// plan is made at the first use, in the process that uses it, and kept; PostgreSQL plans it again by
// itself when a table of it changes or the extension is created anew.
//
//     pg::SavedPlan insert_failure = {"INSERT INTO herald_internal.failure_store ..."};   // static
//     pg::SpiRunSaved(insert_failure, params);                                   // inside SpiBegin/SpiEnd

#pragma once

#include "pg/pg.hpp"
#include "pg/spi.hpp"

namespace herald::pg {

struct SavedPlan {
    const char *sql;
    SPIPlanPtr plan = nullptr;
};

// As SpiRun. The parameter types of the first call are kept: they must not vary.
template <std::size_t N>
uint64 SpiRunSaved(SavedPlan &saved, const std::array<Param, N> &params, long limit = 0) {
    static_assert(N <= kMaxParams);
    return SpiRunWith(saved.sql, params.data(), static_cast<int>(N), limit, &saved.plan);
}

}  // namespace herald::pg
