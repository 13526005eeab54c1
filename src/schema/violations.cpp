// See violations.hpp.

#include "schema/violations.hpp"

extern "C" {
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
}

namespace herald {

namespace {

constexpr int kShort = 60;
constexpr int kListed = 8;
constexpr int kLongPath = 200;

void PutToken(StringInfo out, std::string_view token) {
    appendStringInfoChar(out, '/');
    for (char c : token) {
        if (c == '~')
            appendStringInfoString(out, "~0");
        else if (c == '/')
            appendStringInfoString(out, "~1");
        else
            appendStringInfoChar(out, c);
    }
}

// Deep schemas and payloads make long chains: from the outermost on (or what is below `end`) without recursion.
template <typename Step, typename Put>
void PutOutermostFirst(const Step *innermost, const Step *Step::*up, const Step *end, Put &&put) {
    int depth = 0;
    for (const Step *step = innermost; step != end && step != nullptr; step = step->*up) depth++;
    const Step **steps = static_cast<const Step **>(palloc(sizeof(Step *) * (static_cast<Size>(depth) + 1)));
    int i = depth;
    for (const Step *step = innermost; step != end && step != nullptr; step = step->*up) steps[--i] = step;
    for (i = 0; i < depth; i++) put(steps[i]);
    pfree(steps);
}

}  // namespace

char *PayloadPath(const PathStep *innermost) {
    StringInfoData path;
    initStringInfo(&path);
    PutOutermostFirst(innermost, &PathStep::up, static_cast<const PathStep *>(nullptr), [&](const PathStep *step) {
        if (step->key.data() == nullptr)
            appendStringInfo(&path, "/%u", step->index);
        else
            PutToken(&path, step->key);
    });
    return path.data;
}

char *SchemaPath(const SchemaNode *innermost, const char *keyword, const SchemaNode *start) {
    StringInfoData path;
    initStringInfo(&path);
    PutOutermostFirst(innermost, &SchemaNode::parent, start, [&](const SchemaNode *node) {
        if (node->keyword == nullptr || node->keyword[0] == '\0') return;
        appendStringInfo(&path, "/%s", node->keyword);
        if (node->index >= 0)
            appendStringInfo(&path, "/%d", node->index);
        else if (node->name.data() != nullptr)
            PutToken(&path, node->name);
    });
    if (keyword[0] != '\0') appendStringInfo(&path, "/%s", keyword);
    return path.data;
}

char *DescribeViolation(const Violation &violation) {
    const char *path = violation.payload_path;
    if (path[0] == '\0') return psprintf("the payload %s", violation.message);
    const int length = static_cast<int>(std::strlen(path));
    const int shown = pg_mbcliplen(path, length, kLongPath);
    return psprintf("\"%.*s%s\" %s", shown, path, shown < length ? "..." : "", violation.message);
}

char *ExpectedTypes(TypeSet types) {
    StringInfoData text;
    initStringInfo(&text);
    const char *names[7];
    int count = 0;
    for (int type = 0; type < 6; type++) {
        if ((types & (1 << type)) == 0) continue;
        constexpr const char *kNames[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
        names[count++] = kNames[type];
    }
    if ((types & kIntegerBit) != 0 && (types & TypeBit(JsonType::kNumber)) == 0) names[count++] = "an integer";
    for (int i = 0; i < count; i++)
        appendStringInfo(&text, "%s%s", i == 0 ? "" : i + 1 < count ? ", " : " or ", names[i]);
    return text.data;
}

char *ListValues(const ValueList &list) {
    StringInfoData text;
    initStringInfo(&text);
    for (int i = 0; i < list.count; i++) {
        if (i >= kListed) {
            appendStringInfo(&text, " and %d more", list.count - i);
            break;
        }
        appendStringInfo(&text, "%s%s", i == 0 ? "" : ", ", ShortJson(list.values[i]));
    }
    return list.count == 0 ? pstrdup("none") : text.data;
}

char *Count(int64 count, const char *one, const char *many) {
    return psprintf(INT64_FORMAT " %s", count, count == 1 ? one : many);
}

char *ShortJson(const JsonView &value) {
    StringInfoData text;
    initStringInfo(&text);
    switch (value.type) {
        case JsonType::kNull:
            appendStringInfoString(&text, "null");
            break;
        case JsonType::kBoolean:
            appendStringInfoString(&text, value.boolean ? "true" : "false");
            break;
        case JsonType::kNumber:
            appendStringInfoString(&text,
                                   DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.number))));
            break;
        case JsonType::kString:
            escape_json(&text, pnstrdup(value.string, value.size));
            break;
        case JsonType::kArray:
        case JsonType::kObject:
            (void)JsonbToCString(&text, const_cast<JsonbContainer *>(value.container), kShort);
            break;
    }
    if (text.len <= kShort) return text.data;
    const int length = pg_mbcliplen(text.data, text.len, kShort);
    return psprintf("%.*s...", length, text.data);
}

}  // namespace herald
