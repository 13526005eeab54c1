// The row of herald.status() about the tables of the extension.

#include "pg/pg.hpp"

#include "sql/status_rows.hpp"
#include "tables/own_tables.hpp"

namespace herald {

bool ReportTables(FunctionCallInfo fcinfo) {
    const char *misfits = FindMisfits();
    Report(fcinfo, "tables", misfits == nullptr, misfits == nullptr ? "as they were made" : misfits, pg::kMisfitHint);
    return misfits == nullptr;
}

}  // namespace herald
