// A row's identity as somebody writes it who asks for the row's history: {"at": "2026-01-01 05:30+05:30"}.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

// The same key as the trail has it: texts of times, uuids and the like in the one form in which they are recorded, by
// the types of the relation's columns. A text that is no such value is an ERROR of its type. In the current context.
const Jsonb *RecordedForm(Oid relation, const Jsonb *key);

}  // namespace herald
