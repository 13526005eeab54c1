// See payload_schema.hpp.

#include "publish/payload_schema.hpp"

#include "channel/channel_table.hpp"
#include "schema/schema_cache.hpp"
#include "schema/schema_check.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "lib/stringinfo.h"
}

namespace herald {

namespace {

constexpr int kMaxListed = 10;
// A batch may have thousands that do not fit.
constexpr int kMaxWarnings = 10;

const CompiledSchema *SchemaOf(const Channel &channel) {
    if (const CompiledSchema *schema = CompiledByHandle(channel.compiled_schema); schema != nullptr) return schema;
    Jsonb *source = ReadChannelSchema(channel.id);
    // Gone since the channel was looked up, in a transaction that is not this one's: as it was then.
    if (source == nullptr) return nullptr;
    char *what = psprintf("schema for channel \"%s\"", channel.name);
    const CompiledSchema *schema = CompiledFor(source, channel.check_formats, what, &channel.compiled_schema);
    pfree(what);
    pfree(source);
    return schema;
}

// `element`: its number in a batch, from 1; 0: there is only one.
char *SubjectOf(const Channel &channel, int element) {
    return element == 0 ? psprintf("payload for channel \"%s\"", channel.name)
                        : psprintf("payload %d for channel \"%s\"", element, channel.name);
}

void Report(int level, const Channel &channel, const CompiledSchema *schema, Jsonb *payload, int element) {
    Violation violations[kMaxListed + 1];
    StringInfoData detail;
    const int count = FindViolations(schema, payload, violations, kMaxListed + 1);
    initStringInfo(&detail);
    for (int i = 0; i < Min(count, kMaxListed); i++)
        appendStringInfo(&detail, "%s%s, see \"%s\" of the schema.", i == 0 ? "" : "\n",
                         DescribeViolation(violations[i]), violations[i].schema_path);
    ereport(level, (errcode(ERRCODE_CHECK_VIOLATION),
                    count == 0 ? errmsg("%s does not fit its schema", SubjectOf(channel, element))
                               : errmsg("%s does not fit its schema: %s", SubjectOf(channel, element),
                                        DescribeViolation(violations[0])),
                    count == 0 ? 0 : errdetail("%s", detail.data),
                    count <= kMaxListed ? 0 : errhint("herald.validation_errors() lists more.")));
}

void ReportTooManySteps(int level, const Channel &channel, int element) {
    ereport(level, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
                    errmsg("%s takes too many steps to check", SubjectOf(channel, element)),
                    errhint("Alternatives within alternatives of the schema multiply: tell them apart "
                            "by \"if\".")));
}

// False where it does not fit and the channel only warns, which is told unless `quiet`.
bool Check(const Channel &channel, const CompiledSchema *schema, Datum payload, int element, bool quiet) {
    Jsonb *jsonb = DatumGetJsonbP(payload);
    const Fit fit = FitsSchema(schema, jsonb);
    if (fit == Fit::kFits) return true;

    const bool rejects = channel.validation == Validation::kReject;
    if (rejects)
        CountNow(CountersOf(channel), ChannelCounter::kRejected, 1);
    else
        CountAtCommit(CountersOf(channel), ChannelCounter::kWarned, 1);
    if (!rejects && quiet) return false;
    if (fit == Fit::kTooManySteps)
        ReportTooManySteps(rejects ? ERROR : WARNING, channel, element);
    else
        Report(rejects ? ERROR : WARNING, channel, schema, jsonb, element);
    return false;
}

}  // namespace

void CheckPayloadSchema(const Channel &channel, Datum payload) {
    const CompiledSchema *schema = SchemaOf(channel);
    if (schema != nullptr) (void)Check(channel, schema, payload, 0, false);
}

bool FitsPayloadSchema(const Channel &channel, Datum payload) {
    if (channel.validation != Validation::kReject) return true;
    const CompiledSchema *schema = SchemaOf(channel);
    return schema == nullptr || FitsSchema(schema, DatumGetJsonbP(payload)) == Fit::kFits;
}

void CheckPayloadSchemas(const Channel &channel, const NewMessage *messages, int count) {
    const CompiledSchema *schema = SchemaOf(channel);
    int misfits = 0;
    if (schema == nullptr) return;
    for (int i = 0; i < count; i++)
        if (!Check(channel, schema, messages[i].payload, i + 1, misfits >= kMaxWarnings)) misfits++;
    if (misfits > kMaxWarnings)
        ereport(WARNING,
                (errcode(ERRCODE_CHECK_VIOLATION), errmsg("%d more payloads for channel \"%s\" do not fit its schema",
                                                          misfits - kMaxWarnings, channel.name)));
}

}  // namespace herald
