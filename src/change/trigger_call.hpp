// The one reading of a trigger's call: who makes a trigger of our functions by himself may say anything in it.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "commands/trigger.h"
}

namespace herald {

// What happened to a row, or to all of them.
enum RowChange : uint8 {
    kNoChange = 0,
    kInserted = 1 << 0,
    kUpdated = 1 << 1,
    kDeleted = 1 << 2,
    kTruncated = 1 << 3,
};
inline constexpr uint8 kEveryRowChange = kInserted | kUpdated | kDeleted;

// What a trigger function is for.
struct TriggerKind {
    const char *maker;  // the function that makes its triggers
    uint8 events;       // a set of RowChange
    bool by_row;        // a row trigger; else one of statements, with the transition tables that the event has
    int arguments;
};

RowChange ChangeOf(const TriggerData *trigger);

// The call as a trigger of this kind. Error 39P01: it is none, or of another kind.
TriggerData *ReadTriggerCall(FunctionCallInfo fcinfo, const TriggerKind &kind);

}  // namespace herald
