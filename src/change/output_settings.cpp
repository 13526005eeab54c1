// See output_settings.hpp.

#include "change/output_settings.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/pg_locale.h"
#include "utils/syscache.h"
#include "utils/xml.h"
}

namespace herald {

namespace {

constexpr int kUnchanged = 0;

// For what differs: a level of settings is begun only where something does.
class Pins {
public:
    void Set(bool differs, const char *name, const char *value) {
        if (!differs) return;
        if (level_ == kUnchanged) level_ = NewGUCNestLevel();
        (void)set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    }
    int level() const { return level_; }

private:
    int level_ = kUnchanged;
};

bool IsUtc(const pg_tz *zone) {
    const std::string_view name = pg_get_timezone_name(const_cast<pg_tz *>(zone));
    return name == "UTC" || name == "Etc/UTC";
}

bool IsC(const char *locale) { return locale != nullptr && std::strcmp(locale, "C") == 0; }

}  // namespace

OutputNeeds NeedsOfType(Oid given) {
    const Oid type = getBaseType(given);
    switch (type) {
        case TIMESTAMPTZOID:
            return kNeedsZone;
        case MONEYOID:
            return kNeedsLocale;
        case REGPROCOID:
        case REGPROCEDUREOID:
        case REGOPEROID:
        case REGOPERATOROID:
        case REGCLASSOID:
        case REGTYPEOID:
        case REGCOLLATIONOID:
        case REGCONFIGOID:
        case REGDICTIONARYOID:
        case REGROLEOID:
        case REGNAMESPACEOID:
            return kNeedsPath;
        default:
            break;
    }
    switch (get_typtype(type)) {
        case TYPTYPE_RANGE:
            return NeedsOfType(get_range_subtype(type));
        case TYPTYPE_MULTIRANGE:
            return NeedsOfType(get_multirange_range(type));
        case TYPTYPE_ENUM:
            return 0;
        case TYPTYPE_COMPOSITE:
            return kNeedsZone;
        default:
            break;
    }
    const Oid element = get_element_type(type);
    if (OidIsValid(element)) return NeedsOfType(element);
    return type >= FirstNormalObjectId ? kNeedsZone : 0;
}

OutputNeeds NeedsOfCast(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) return kNeedsZone;
    const Oid language = reinterpret_cast<FormData_pg_proc *>(GETSTRUCT(tuple))->prolang;
    ReleaseSysCache(tuple);
    return language == ClanguageId || language == INTERNALlanguageId ? kNeedsZone : kNeedsZone | kNeedsLocale;
}

int PinOutputSettings(OutputNeeds needs) {
    Pins pins;
    pins.Set(extra_float_digits < 1, "extra_float_digits", "1");  // from 1 on floats are exact
    pins.Set(DateStyle != USE_ISO_DATES, "DateStyle", "ISO");
    pins.Set(IntervalStyle != INTSTYLE_POSTGRES, "IntervalStyle", "postgres");
    pins.Set(bytea_output != BYTEA_OUTPUT_HEX, "bytea_output", "hex");
    if ((needs & kNeedsZone) != 0) pins.Set(!IsUtc(session_timezone), "TimeZone", "UTC");
    if ((needs & kNeedsLocale) != 0) {
        pins.Set(!IsC(locale_monetary), "lc_monetary", "C");
        pins.Set(!IsC(locale_numeric), "lc_numeric", "C");
        pins.Set(!IsC(locale_time), "lc_time", "C");
        pins.Set(xmlbinary != XMLBINARY_BASE64, "xmlbinary", "base64");
    }
    return pins.level();
}

int PinNames() {
    Pins pins;
    pins.Set(true, "search_path", "pg_catalog, pg_temp");
    pins.Set(quote_all_identifiers, "quote_all_identifiers", "off");
    return pins.level();
}

void UnpinOutputSettings(int level) {
    if (level != kUnchanged) AtEOXact_GUC(true, level);
}

}  // namespace herald
