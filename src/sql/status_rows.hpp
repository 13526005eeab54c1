// The rows of herald.status(): each file sql/status_*.cpp reports on one part of the system, and
// sql/status_function.cpp calls them in the order in which to look for the reason why nothing runs.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "fmgr.h"
#include "lib/stringinfo.h"
}

namespace herald {

// What a value is as a number, in base units: a ratio, bytes, seconds, or how many of something.
struct Measure {
    double number;
    const char *unit;  // NULL: it is no number
};

// One row. The hint, which may be NULL, is shown where the check is not ok.
void Report(FunctionCallInfo fcinfo, const char *name, bool ok, const char *value, const char *hint,
            const Measure &measure = {0, nullptr});

// A list of subscriptions, channels or tables that share a fault.
struct Listed {
    StringInfoData text;
    int count;
};

void InitListed(Listed *listed);
void AddListed(Listed *listed, const char *name, const char *detail);  // detail may be NULL
// `unit`: what is counted.
void ReportListed(FunctionCallInfo fcinfo, const char *name, const Listed &listed, const char *unit, const char *hint);

void ReportServer(FunctionCallInfo fcinfo);
// False where the tables are not to be read.
bool ReportTables(FunctionCallInfo fcinfo);
void ReportProcesses(FunctionCallInfo fcinfo);
void ReportSubscriptions(FunctionCallInfo fcinfo);
void ReportListeners(FunctionCallInfo fcinfo);
void ReportAudit(FunctionCallInfo fcinfo);
// False where the tables can't be read: there is no more to report.
bool ReportForeignRights(FunctionCallInfo fcinfo);

}  // namespace herald
