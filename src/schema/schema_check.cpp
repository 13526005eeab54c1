// See schema_check.hpp.

#include "schema/schema_check.hpp"

#include "schema/check_run.hpp"
#include "schema/multiple_of.hpp"

extern "C" {
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
}

namespace herald {

namespace {

// A check may take so many steps, and so many more for each byte of the payload. A step is about 50 ns.
constexpr int64 kSteps = 1000000;
constexpr int64 kStepsPerByte = 100;
// A longer text is of no format: a look at it is linear, but nothing can interrupt that.
constexpr uint32 kLongestFormatted = 16 * 1024 * 1024;

template <bool kReport>
bool CheckNumber(Run *run, const SchemaNode *node, Numeric number, const PathStep *path) {
    const NumberRules &rules = *node->number;
    bool fits = true;
    auto refuse = [&](const char *keyword, const char *what, Numeric limit) {
        fits = false;
        return Violated<kReport>(run, node, keyword, path, [&] {
            JsonView value{};
            value.type = JsonType::kNumber;
            value.number = limit;
            return psprintf("must be %s %s", what, ShortJson(value));
        });
    };
    if (rules.minimum != nullptr && CompareNumbers(number, rules.minimum) < 0 &&
        !refuse("minimum", "at least", rules.minimum))
        return false;
    if (rules.maximum != nullptr && CompareNumbers(number, rules.maximum) > 0 &&
        !refuse("maximum", "at most", rules.maximum))
        return false;
    if (rules.exclusive_minimum != nullptr && CompareNumbers(number, rules.exclusive_minimum) <= 0 &&
        !refuse("exclusiveMinimum", "greater than", rules.exclusive_minimum))
        return false;
    if (rules.exclusive_maximum != nullptr && CompareNumbers(number, rules.exclusive_maximum) >= 0 &&
        !refuse("exclusiveMaximum", "less than", rules.exclusive_maximum))
        return false;
    if (rules.multiple_of != nullptr) TakeSteps(run, StepsOfDivision(number, rules.multiple_of));
    if (unlikely(run->steps_left < 0)) return false;
    if (rules.multiple_of != nullptr && !IsMultipleOf(number, rules.multiple_of) &&
        !refuse("multipleOf", "a multiple of", rules.multiple_of))
        return false;
    return fits;
}

template <bool kReport>
bool CheckString(Run *run, const SchemaNode *node, const JsonView &value, const PathStep *path) {
    const StringRules &rules = *node->string;
    bool fits = true;
    TakeSteps(run, value.size / 16);
    // Characters are counted only where the number of bytes leaves it open.
    if (value.size > rules.max_length || (rules.min_length > 0 && value.size / 4 < rules.min_length)) {
        const int64 length = pg_mbstrlen_with_len(value.string, static_cast<int>(value.size));
        if (length < rules.min_length) {
            fits = false;
            if (!Violated<kReport>(run, node, "minLength", path, [&] {
                    return psprintf("must have at least %s, has " INT64_FORMAT,
                                    Count(rules.min_length, "character", "characters"), length);
                }))
                return false;
        }
        if (length > rules.max_length) {
            fits = false;
            if (!Violated<kReport>(run, node, "maxLength", path, [&] {
                    return psprintf("must have at most %s, has " INT64_FORMAT,
                                    Count(rules.max_length, "character", "characters"), length);
                }))
                return false;
        }
    }
    if (rules.pattern != nullptr && !MatchesPattern(rules.pattern, value.text())) {
        fits = false;
        if (!Violated<kReport>(run, node, "pattern", path,
                               [&] { return psprintf("does not match the pattern %s", rules.pattern_source); }))
            return false;
    }
    if (rules.format != nullptr && (value.size > kLongestFormatted || !rules.format(value.text()))) {
        fits = false;
        if (!Violated<kReport>(run, node, "format", path,
                               [&] { return psprintf("is no valid %s", rules.format_name); }))
            return false;
    }
    return fits;
}

bool IsListed(Run *run, const ValueList &list, const JsonView &value) {
    const int64 members = value.type >= JsonType::kArray ? value.size : 0;
    TakeSteps(run, list.count * (members + 1) / 8);
    for (int i = 0; i < list.count; i++) {
        const JsonView &listed = list.values[i];
        if (listed.type != value.type) continue;
        if (value.type == JsonType::kString ? listed.text() == value.text() : EqualValues(listed, value)) return true;
    }
    return false;
}

bool FitsType(TypeSet types, const JsonView &value) {
    if ((types & TypeBit(value.type)) != 0) return true;
    return value.type == JsonType::kNumber && (types & kIntegerBit) != 0 && IsInteger(value.number);
}

// An alternative: what it evaluated counts only where it fits.
bool TryNode(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen) {
    if (seen == nullptr) return CheckNode<false>(run, node, value, scope, nullptr, nullptr);
    Seen own(seen->size());
    const bool fits = CheckNode<false>(run, node, value, scope, &own, nullptr);
    if (fits) seen->Add(&own);
    own.Free();
    return fits;
}

int CountFitting(Run *run, const NodeList &list, const JsonView &value, const Scope *scope, Seen *seen, int enough) {
    int fitting = 0;
    for (int i = 0; i < list.count && fitting < enough; i++)
        fitting += TryNode(run, list.nodes[i], value, scope, seen) ? 1 : 0;
    return fitting;
}

// What a node refers to, where it does nothing else about types and members.
const SchemaNode *Followed(const SchemaNode *node) {
    for (int i = 0; i < 8 && node->ref != nullptr && node->object == nullptr; i++) node = node->ref;
    return node;
}

// False where the value is of another type, or a member that tells alternatives apart has another value.
bool MayBeMeant(Run *run, const SchemaNode *node, const JsonView &value) {
    if (node->kind != NodeKind::kRules) return false;
    const SchemaNode *rules = Followed(node);
    if (rules->kind != NodeKind::kRules || !FitsType(rules->types, value)) return false;
    if (rules->constant != nullptr || rules->enumeration != nullptr) return false;
    if (value.type != JsonType::kObject || rules->object == nullptr) return true;
    for (int i = 0; i < rules->object->member_count; i++) {
        const MemberRule &member = rules->object->members[i];
        JsonView found;
        if (member.node == nullptr || !FindMember(value, member.name, &found)) continue;
        if (member.node->constant != nullptr && !EqualValues(*member.node->constant, found)) return false;
        if (member.node->enumeration != nullptr && !IsListed(run, *member.node->enumeration, found)) return false;
    }
    return true;
}

// Which of the alternatives that fail was meant is not known. What none of them looks at was surely not evaluated.
void NoteAllAlternatives(Run *run, const NodeList &list, const JsonView &value, const Scope *scope, Seen *seen) {
    const bool before = run->silent;
    if (seen == nullptr) return;
    run->silent = true;
    for (int i = 0; i < list.count; i++) (void)CheckNode<true>(run, list.nodes[i], value, scope, seen, nullptr);
    run->silent = before;
}

// All alternatives fail. If only one can have been meant, its violations help more than the bare fact.
void ReportMeant(Run *run, const NodeList &list, const JsonView &value, const Scope *scope, const PathStep *path) {
    const SchemaNode *meant = nullptr;
    for (int i = 0; i < list.count; i++) {
        if (!MayBeMeant(run, list.nodes[i], value)) continue;
        if (meant != nullptr) return;
        meant = list.nodes[i];
    }
    if (meant != nullptr) (void)CheckNode<true>(run, meant, value, scope, nullptr, path);
}

template <bool kReport>
bool CheckApplicators(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
                      const PathStep *path) {
    const Applicators &rules = *node->applicators;
    bool fits = true;
    TakeSteps(run, (rules.all_of.count + rules.any_of.count + rules.one_of.count) / 8);
    for (int i = 0; i < rules.all_of.count; i++) {
        if (CheckNode<kReport>(run, rules.all_of.nodes[i], value, scope, seen, path)) continue;
        if (!kReport) return false;
        fits = false;
    }
    // With annotations to gather, all alternatives count, not only the first one that fits.
    const int enough = seen == nullptr ? 1 : rules.any_of.count;
    if (rules.any_of.count > 0 && CountFitting(run, rules.any_of, value, scope, seen, enough) == 0) {
        fits = false;
        if (!Violated<kReport>(run, node, "anyOf", path,
                               [&] { return psprintf("fits none of the %d alternatives", rules.any_of.count); }))
            return false;
        if (!run->silent) ReportMeant(run, rules.any_of, value, scope, path);
        NoteAllAlternatives(run, rules.any_of, value, scope, seen);
        if (run->count >= run->limit) return false;
    }
    if (rules.one_of.count > 0) {
        const int fitting = CountFitting(run, rules.one_of, value, scope, seen, 2);
        if (fitting != 1) {
            fits = false;
            if (!Violated<kReport>(run, node, "oneOf", path, [&] {
                    return psprintf(
                        fitting == 0 ? "fits none of the %d alternatives" : "fits more than one of the %d alternatives",
                        rules.one_of.count);
                }))
                return false;
            if (fitting == 0 && !run->silent) ReportMeant(run, rules.one_of, value, scope, path);
            NoteAllAlternatives(run, rules.one_of, value, scope, seen);
            if (run->count >= run->limit) return false;
        }
    }
    if (rules.no != nullptr && CheckNode<false>(run, rules.no, value, scope, nullptr, nullptr)) {
        fits = false;
        if (!Violated<kReport>(run, node, "not", path, [] { return pstrdup("fits what it must not fit"); }))
            return false;
    }
    if (rules.if_node != nullptr) {
        const SchemaNode *then = TryNode(run, rules.if_node, value, scope, seen) ? rules.then_node : rules.else_node;
        if (then != nullptr && !CheckNode<kReport>(run, then, value, scope, seen, path)) {
            if (!kReport) return false;
            fits = false;
        }
    }
    return fits;
}

const SchemaNode *DynamicTarget(Run *run, const SchemaNode *node, const Scope *scope) {
    const SchemaNode *target = node->dynamic_default;
    if (node->dynamic_ref == nullptr) return target;
    // The outermost resource that has the anchor.
    for (; scope != nullptr; scope = scope->outer) {
        TakeSteps(run, run->schema->dynamic_anchor_count / 16);
        if (unlikely(run->steps_left < 0)) break;
        CHECK_FOR_INTERRUPTS();
        for (int i = 0; i < run->schema->dynamic_anchor_count; i++) {
            const DynamicAnchor &anchor = run->schema->dynamic_anchors[i];
            if (anchor.resource == scope->resource && anchor.name == *node->dynamic_ref) target = anchor.node;
        }
    }
    return target;
}

template <bool kReport>
bool CheckScalarRules(Run *run, const SchemaNode *node, const JsonView &value, const PathStep *path) {
    bool fits = true;
    if (node->types != kAnyType && !FitsType(node->types, value)) {
        fits = false;
        if (!Violated<kReport>(run, node, "type", path, [&] {
                TypeSet is = TypeBit(value.type);
                return psprintf("is %s, must be %s", ExpectedTypes(is), ExpectedTypes(node->types));
            }))
            return false;
    }
    if (node->constant != nullptr && !EqualValues(*node->constant, value)) {
        fits = false;
        if (!Violated<kReport>(run, node, "const", path,
                               [&] { return psprintf("must be %s", ShortJson(*node->constant)); }))
            return false;
    }
    if (node->enumeration != nullptr && !IsListed(run, *node->enumeration, value)) {
        fits = false;
        if (!Violated<kReport>(run, node, "enum", path,
                               [&] { return psprintf("must be one of %s", ListValues(*node->enumeration)); }))
            return false;
    }
    return fits;
}

}  // namespace

template <bool kReport>
bool CheckNode(Run *run, const SchemaNode *node, const JsonView &value, const Scope *outer, Seen *seen,
               const PathStep *path) {
    if (node->kind == NodeKind::kAlways) return true;
    if (node->kind == NodeKind::kNever) {
        (void)Violated<kReport>(run, node, "", path, [] { return pstrdup("is not allowed"); });
        return false;
    }
    TakeSteps(run, 1);
    if (unlikely(run->steps_left < 0)) return false;
    check_stack_depth();
    CHECK_FOR_INTERRUPTS();

    const Scope own_scope{node->resource, outer};
    const Scope *scope = outer != nullptr && outer->resource == node->resource ? outer : &own_scope;
    const bool is_container = value.type >= JsonType::kArray;
    Seen own(node->tracks_evaluated && is_container ? value.size : 0);
    Seen *marks = !is_container ? nullptr : node->tracks_evaluated ? &own : seen;
    bool fits = true;
    auto follow = [&](const char *keyword, const SchemaNode *to) {
        if constexpr (!kReport) return CheckNode<false>(run, to, value, scope, marks, path);
        const Jump jump{run->jump, node, keyword, to};
        run->jump = &jump;
        const bool part = CheckNode<kReport>(run, to, value, scope, marks, path);
        run->jump = jump.outer;
        return part;
    };
    // Notes a failure; true: it ends the check.
    auto failed = [&](bool part) {
        if (part) return false;
        fits = false;
        return !kReport || run->count >= run->limit;
    };
    auto check = [&] {
        if (node->ref != nullptr && failed(follow("$ref", node->ref))) return;
        if (node->dynamic_default != nullptr && failed(follow("$dynamicRef", DynamicTarget(run, node, scope)))) return;
        if (failed(CheckScalarRules<kReport>(run, node, value, path))) return;
        if (value.type == JsonType::kNumber && node->number != nullptr &&
            failed(CheckNumber<kReport>(run, node, value.number, path)))
            return;
        if (value.type == JsonType::kString && node->string != nullptr &&
            failed(CheckString<kReport>(run, node, value, path)))
            return;
        if (value.type == JsonType::kArray && node->array != nullptr &&
            failed(CheckArray<kReport>(run, node, value, scope, marks, path)))
            return;
        if (value.type == JsonType::kObject && node->object != nullptr &&
            failed(CheckObject<kReport>(run, node, value, scope, marks, path)))
            return;
        if (node->applicators != nullptr && failed(CheckApplicators<kReport>(run, node, value, scope, marks, path)))
            return;
        if (marks == &own && (kReport || fits))
            (void)failed(CheckUnevaluated<kReport>(run, node, value, scope, marks, path));
    };
    check();
    if (marks == &own) {
        if (seen != nullptr && (kReport || fits)) seen->Add(&own);
        own.Free();
    }
    return fits;
}

template bool CheckNode<false>(Run *, const SchemaNode *, const JsonView &, const Scope *, Seen *, const PathStep *);
template bool CheckNode<true>(Run *, const SchemaNode *, const JsonView &, const Scope *, Seen *, const PathStep *);

void AddViolation(Run *run, const SchemaNode *node, const char *keyword, const PathStep *path, char *message) {
    // From the outside in: each part begins where the reference before it leads.
    StringInfoData location;
    initStringInfo(&location);
    int depth = 0;
    for (const Jump *jump = run->jump; jump != nullptr; jump = jump->outer) depth++;
    const Jump **jumps = static_cast<const Jump **>(palloc(sizeof(Jump *) * (static_cast<Size>(depth) + 1)));
    int i = depth;
    for (const Jump *jump = run->jump; jump != nullptr; jump = jump->outer) jumps[--i] = jump;
    const SchemaNode *start = nullptr;
    for (i = 0; i < depth; i++) {
        appendStringInfoString(&location, SchemaPath(jumps[i]->from, jumps[i]->keyword, start));
        start = jumps[i]->to;
    }
    appendStringInfoString(&location, SchemaPath(node, keyword, start));
    pfree(jumps);
    run->violations[run->count++] = {PayloadPath(path), SchemaPath(node, keyword), location.data, message};
}

namespace {

Run StartRun(const CompiledSchema *schema, Jsonb *payload) {
    Run run{};
    run.schema = schema;
    run.steps_left = kSteps + kStepsPerByte * static_cast<int64>(VARSIZE(payload));
    return run;
}

}  // namespace

Fit FitsSchema(const CompiledSchema *schema, Jsonb *payload) {
    Run run = StartRun(schema, payload);
    const bool fits = CheckNode<false>(&run, schema->root, ViewOf(payload), nullptr, nullptr, nullptr);
    if (run.steps_left < 0) return Fit::kTooManySteps;
    return fits ? Fit::kFits : Fit::kViolates;
}

int FindViolations(const CompiledSchema *schema, Jsonb *payload, Violation *violations, int limit) {
    Run run = StartRun(schema, payload);
    run.steps_left *= 4;  // it does not stop at the first one
    run.violations = violations;
    run.limit = limit;
    (void)CheckNode<true>(&run, schema->root, ViewOf(payload), nullptr, nullptr, nullptr);
    return run.count;
}

}  // namespace herald
