// SQL entry points of JSON Schema: for CHECK constraints, tests, and whoever wants to know.

#include "pg/guard.hpp"
#include "schema/schema_cache.hpp"
#include "schema/schema_check.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/tuplestore.h"
}

using namespace herald;

namespace {

// A large payload can have very many violations. The first ones say enough.
constexpr int kMaxViolations = 1000;

bool Fits(const CompiledSchema *schema, Jsonb *payload) {
    const Fit fit = FitsSchema(schema, payload);
    if (fit == Fit::kTooManySteps)
        ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX), errmsg("checking the payload takes too many steps"),
                        errhint("Alternatives within alternatives multiply: tell them apart by \"if\".")));
    return fit == Fit::kFits;
}

const CompiledSchema *SchemaArgument(FunctionCallInfo fcinfo) {
    return CompiledFor(PG_GETARG_JSONB_P(0), PG_GETARG_BOOL(2), "schema", nullptr);
}

}  // namespace

// herald.validate(schema jsonb, payload jsonb, check_formats boolean) -> boolean
HERALD_FUNCTION(validate) {
    const CompiledSchema *schema = SchemaArgument(fcinfo);
    PG_RETURN_BOOL(Fits(schema, PG_GETARG_JSONB_P(1)));
}

// herald.validation_errors(schema jsonb, payload jsonb, check_formats boolean) -> setof record
HERALD_FUNCTION(validation_errors) {
    InitMaterializedSRF(fcinfo, 0);
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    const CompiledSchema *schema = SchemaArgument(fcinfo);
    Jsonb *payload = PG_GETARG_JSONB_P(1);
    if (Fits(schema, payload)) return static_cast<Datum>(0);

    Violation *violations = static_cast<Violation *>(palloc(sizeof(Violation) * kMaxViolations));
    const int count = FindViolations(schema, payload, violations, kMaxViolations);
    for (int i = 0; i < count; i++) {
        Datum values[] = {CStringGetTextDatum(violations[i].payload_path),
                          CStringGetTextDatum(violations[i].schema_path), CStringGetTextDatum(violations[i].message),
                          CStringGetTextDatum(violations[i].payload_path),
                          CStringGetTextDatum(violations[i].keyword_location)};
        bool nulls[] = {false, false, false, false, false};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return static_cast<Datum>(0);
}
