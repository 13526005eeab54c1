// See saved_plan.hpp.

#include "pg/saved_plan.hpp"

extern "C" {
#include "utils/snapmgr.h"
}

namespace herald::pg {

uint64 SpiRunSavedWith(SavedPlan &saved, const Param *params, int count, long limit) {
    Oid types[kMaxParams];
    Datum values[kMaxParams];
    char nulls[kMaxParams];

    Assert(count <= kMaxParams);
    for (int i = 0; i < count; i++) {
        types[i] = params[i].type;
        values[i] = params[i].value;
        nulls[i] = params[i].is_null ? 'n' : ' ';
    }
    // A worker's transaction has no snapshot of its own yet when it comes here first.
    bool pushed = false;
    if (!ActiveSnapshotSet()) {
        PushActiveSnapshot(GetTransactionSnapshot());
        pushed = true;
    }
    if (saved.plan == nullptr) {
        SPIPlanPtr plan = SPI_prepare(saved.sql, count, types);
        if (plan == nullptr || SPI_keepplan(plan) != 0)
            elog(ERROR, "could not prepare an internal statement: %s",
                 SPI_result_code_string(SPI_result));
        saved.plan = plan;
    }
    int code = SPI_execute_plan(saved.plan, values, nulls, false, limit);
    if (pushed) PopActiveSnapshot();
    if (code < 0)
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
                        errmsg("could not run an internal statement: %s",
                               SPI_result_code_string(code)),
                        errdetail("The statement is: %s", saved.sql)));
    return SPI_processed;
}

}  // namespace herald::pg
