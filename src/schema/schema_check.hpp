// Checks payloads against a compiled schema. The payload must be detoasted.
//
// Can be cancelled. What is nested too deep is an ERROR 54001. What takes too many steps is given up: alternatives
// within alternatives multiply, and neither the publisher nor the announcer can know what a schema's author did.

#pragma once

#include "pg/pg.hpp"
#include "schema/schema_tree.hpp"
#include "schema/violations.hpp"

namespace herald {

enum class Fit { kFits, kViolates, kTooManySteps };

// Stops at the first violation.
Fit FitsSchema(const CompiledSchema *schema, Jsonb *payload);

// Finds at most `limit` violations, in the current memory context; returns how many. For payloads of which it is
// known that they don't fit.
int FindViolations(const CompiledSchema *schema, Jsonb *payload, Violation *violations, int limit);

}  // namespace herald
