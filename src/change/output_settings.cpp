// See output_settings.hpp.

#include "change/output_settings.hpp"

extern "C" {
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
}

namespace herald {

namespace {

constexpr int kUnchanged = 0;

void Set(const char *name, const char *value) {
    (void)set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

}  // namespace

int PinOutputSettings() {
    const bool digits = extra_float_digits < 1;  // from 1 on floats are exact
    const bool dates = DateStyle != USE_ISO_DATES;
    const bool intervals = IntervalStyle != INTSTYLE_POSTGRES;
    const bool bytes = bytea_output != BYTEA_OUTPUT_HEX;
    if (!digits && !dates && !intervals && !bytes) return kUnchanged;

    const int level = NewGUCNestLevel();
    if (digits) Set("extra_float_digits", "1");
    if (dates) Set("DateStyle", "ISO");
    if (intervals) Set("IntervalStyle", "postgres");
    if (bytes) Set("bytea_output", "hex");
    return level;
}

void UnpinOutputSettings(int level) {
    if (level != kUnchanged) AtEOXact_GUC(true, level);
}

}  // namespace herald
