// herald.status(): one row per check, in the order in which to look for the reason why nothing runs.
// Each check says what it found, and where that is not as it should be, what to do.

#include "pg/pg.hpp"

#include "pg/guard.hpp"
#include "sql/status_rows.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
}

namespace herald {

void Report(FunctionCallInfo fcinfo, const char *name, bool ok, const char *value, const char *hint,
            const Measure &measure) {
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    const bool has_hint = !ok && hint != nullptr;
    const bool has_number = measure.unit != nullptr;
    Datum values[6] = {
        CStringGetTextDatum(name),      BoolGetDatum(ok),
        CStringGetTextDatum(value),     has_hint ? CStringGetTextDatum(hint) : static_cast<Datum>(0),
        Float8GetDatum(measure.number), has_number ? CStringGetTextDatum(measure.unit) : static_cast<Datum>(0)};
    bool nulls[6] = {false, false, false, !has_hint, !has_number, !has_number};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

void InitListed(Listed *listed) {
    initStringInfo(&listed->text);
    listed->count = 0;
}

void AddListed(Listed *listed, const char *name, const char *detail) {
    if (listed->count++ > 0) appendStringInfoString(&listed->text, "; ");
    appendStringInfo(&listed->text, "\"%s\"", name);
    if (detail != nullptr) appendStringInfo(&listed->text, ": %s", detail);
}

void ReportListed(FunctionCallInfo fcinfo, const char *name, const Listed &listed, const char *unit, const char *hint) {
    Report(fcinfo, name, listed.count == 0, listed.count == 0 ? "none" : listed.text.data, hint,
           {static_cast<double>(listed.count), unit});
}

}  // namespace herald

HERALD_FUNCTION(status) {
    InitMaterializedSRF(fcinfo, 0);
    herald::ReportServer(fcinfo);
    const bool fit = herald::ReportTables(fcinfo);
    const bool trusted = herald::ReportForeignRights(fcinfo);
    herald::ReportProcesses(fcinfo);
    if (!fit || !trusted) return static_cast<Datum>(0);
    herald::ReportSubscriptions(fcinfo);
    herald::ReportListeners(fcinfo);
    herald::ReportAudit(fcinfo);
    return static_cast<Datum>(0);
}
