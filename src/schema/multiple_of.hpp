// Whether a number is a multiple of another one, and what the division costs.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "utils/numeric.h"
}

namespace herald {

// In steps of a check: each digit of the quotient with each of the divisor.
int64 StepsOfDivision(Numeric number, Numeric by);

bool IsMultipleOf(Numeric number, Numeric of);

}  // namespace herald
