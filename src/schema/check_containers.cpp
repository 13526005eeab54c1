// The rules about elements of arrays and members of objects, see check_run.hpp.

#include "schema/check_run.hpp"

namespace herald {

namespace {

template <bool kReport>
bool CheckSize(Run *run, const SchemaNode *node, const PathStep *path, uint32 size, int64 least, int64 most,
               const char *least_keyword, const char *most_keyword, const char *one, const char *many) {
    if (size < least)
        return Violated<kReport>(run, node, least_keyword, path, [&] {
            return psprintf("must have at least %s, has %u", Count(least, one, many), size);
        });
    if (size > most)
        return Violated<kReport>(run, node, most_keyword, path, [&] {
            return psprintf("must have at most %s, has %u", Count(most, one, many), size);
        });
    return true;
}

template <bool kReport>
bool CheckContains(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
                   const PathStep *path) {
    const ArrayRules &rules = *node->array;
    Seen *marks = rules.contains_evaluates ? seen : nullptr;
    const bool enough_is_enough = marks == nullptr && rules.max_contains == PG_INT64_MAX;
    int64 found = 0;
    if (enough_is_enough && rules.min_contains == 0) return true;
    for (ArrayWalk walk(value); walk.Next();) {
        if (!CheckNode<false>(run, rules.contains, walk.value, scope, nullptr, nullptr)) continue;
        found++;
        if (marks != nullptr) marks->Mark(walk.index - 1);
        if (enough_is_enough && found >= rules.min_contains) return true;
    }
    if (found < rules.min_contains)
        return Violated<kReport>(run, node, rules.min_contains == 1 ? "contains" : "minContains", path, [&] {
            return psprintf("must contain at least %s, has " INT64_FORMAT,
                            Count(rules.min_contains, "such element", "such elements"), found);
        });
    if (found > rules.max_contains)
        return Violated<kReport>(run, node, "maxContains", path, [&] {
            return psprintf("must contain at most %s, has " INT64_FORMAT,
                            Count(rules.max_contains, "such element", "such elements"), found);
        });
    return true;
}

// What follows from a member being there.
template <bool kReport>
bool CheckDependents(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
                     const PathStep *path) {
    const ObjectRules &rules = *node->object;
    bool fits = true;
    for (int i = 0; i < rules.dependent_count; i++) {
        const DependentRule &rule = rules.dependents[i];
        JsonView ignored;
        TakeSteps(run, 1 + rule.required_count);
        if (!FindMember(value, rule.name, &ignored)) continue;
        for (int j = 0; j < rule.required_count; j++) {
            const std::string_view name = rule.required[j];
            if (FindMember(value, name, &ignored)) continue;
            fits = false;
            if (!Violated<kReport>(run, node, rule.keyword, path, [&] {
                    return psprintf("lacks the property \"%.*s\", which \"%.*s\" requires",
                                    static_cast<int>(name.size()), name.data(), static_cast<int>(rule.name.size()),
                                    rule.name.data());
                }))
                return false;
        }
        if (rule.node == nullptr) continue;
        if (CheckNode<kReport>(run, rule.node, value, scope, seen, path)) continue;
        if (!kReport) return false;
        fits = false;
    }
    return fits;
}

template <bool kReport>
bool ReportMissing(Run *run, const SchemaNode *node, const MemberRule &member, const PathStep *path) {
    return Violated<kReport>(run, node, "required", path, [&] {
        return psprintf("lacks the required property \"%.*s\"", static_cast<int>(member.name.size()),
                        member.name.data());
    });
}

}  // namespace

template <bool kReport>
bool CheckArray(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
                const PathStep *path) {
    const ArrayRules &rules = *node->array;
    bool fits = CheckSize<kReport>(run, node, path, value.size, rules.min_items, rules.max_items, "minItems",
                                   "maxItems", "element", "elements");
    if (!kReport && !fits) return false;

    if (rules.prefix.count > 0 || rules.rest != nullptr) {
        const uint32 prefix = static_cast<uint32>(rules.prefix.count);
        for (ArrayWalk walk(value); walk.Next();) {
            const uint32 index = walk.index - 1;
            const SchemaNode *rule = index < prefix ? rules.prefix.nodes[index] : rules.rest;
            if (rule == nullptr) break;
            const PathStep step{path, {}, index};
            if (seen != nullptr) seen->Mark(index);
            if (CheckNode<kReport>(run, rule, walk.value, scope, nullptr, kReport ? &step : nullptr)) continue;
            if (!kReport || run->count >= run->limit) return false;
            fits = false;
        }
    }
    if (rules.contains != nullptr && !CheckContains<kReport>(run, node, value, scope, seen, path)) {
        if (!kReport) return false;
        fits = false;
    }
    if (rules.unique) {
        TakeSteps(run, static_cast<int64>(value.size) * 8);  // they are sorted
        if (!ElementsAreUnique(value)) {
            if (!Violated<kReport>(run, node, "uniqueItems", path, [] { return pstrdup("has two equal elements"); }))
                return false;
            fits = false;
        }
    }
    return fits;
}

template <bool kReport>
bool CheckObject(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
                 const PathStep *path) {
    const ObjectRules &rules = *node->object;
    bool fits = CheckSize<kReport>(run, node, path, value.size, rules.min_properties, rules.max_properties,
                                   "minProperties", "maxProperties", "property", "properties");
    if (!kReport && !fits) return false;

    TakeSteps(run, rules.member_count / 16);
    // The rules and the members are in the same order, so both are gone through once, side by side.
    int next = 0;
    const bool others = rules.pattern_count > 0 || rules.additional != nullptr || rules.names != nullptr;
    for (ObjectWalk walk(value); (others || next < rules.member_count) && walk.Next();) {
        const std::string_view key = walk.key.text();
        const PathStep step{path, key, 0};
        const PathStep *here = kReport ? &step : nullptr;
        const SchemaNode *rule = nullptr;
        bool evaluated = false;
        auto check = [&](const SchemaNode *with, const JsonView &what) {
            if (CheckNode<kReport>(run, with, what, scope, nullptr, here)) return true;
            fits = false;
            return kReport && run->count < run->limit;
        };

        for (; next < rules.member_count; next++) {
            const MemberRule &member = rules.members[next];
            const int order = CompareKeys(member.name, key);
            if (order > 0) break;
            if (order == 0) {
                rule = member.node;
                next++;
                break;
            }
            if (!member.required) continue;
            fits = false;
            if (!ReportMissing<kReport>(run, node, member, path)) return false;
        }
        if (rule != nullptr) {
            evaluated = true;
            if (!check(rule, walk.value)) return false;
        }
        if (others) {
            if (rules.names != nullptr && !check(rules.names, walk.key)) return false;
            for (int i = 0; i < rules.pattern_count; i++) {
                TakeSteps(run, 1 + static_cast<int64>(key.size()) / 16);
                if (!MatchesPattern(rules.patterns[i].pattern, key)) continue;
                evaluated = true;
                if (!check(rules.patterns[i].node, walk.value)) return false;
            }
            if (!evaluated && rules.additional != nullptr) {
                evaluated = true;
                if (!check(rules.additional, walk.value)) return false;
            }
        }
        if (evaluated && seen != nullptr) seen->Mark(walk.index - 1);
    }
    for (; next < rules.member_count; next++) {
        if (!rules.members[next].required) continue;
        fits = false;
        if (!ReportMissing<kReport>(run, node, rules.members[next], path)) return false;
    }
    if (rules.dependent_count > 0 && !CheckDependents<kReport>(run, node, value, scope, seen, path)) return false;
    return fits;
}

template <bool kReport>
bool CheckUnevaluated(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
                      const PathStep *path) {
    bool fits = true;
    auto check = [&](const SchemaNode *rule, const JsonView &what, const PathStep &step) {
        if (CheckNode<kReport>(run, rule, what, scope, nullptr, kReport ? &step : nullptr)) return true;
        fits = false;
        return kReport && run->count < run->limit;
    };
    if (value.type == JsonType::kArray && node->array != nullptr && node->array->unevaluated != nullptr) {
        for (ArrayWalk walk(value); walk.Next();)
            if (!seen->Has(walk.index - 1) && !check(node->array->unevaluated, walk.value, {path, {}, walk.index - 1}))
                return false;
        seen->MarkAll();
    }
    if (value.type == JsonType::kObject && node->object != nullptr && node->object->unevaluated != nullptr) {
        for (ObjectWalk walk(value); walk.Next();)
            if (!seen->Has(walk.index - 1) && !check(node->object->unevaluated, walk.value, {path, walk.key.text(), 0}))
                return false;
        seen->MarkAll();
    }
    return fits;
}

#define INSTANTIATE(function)                                                                         \
    template bool function<false>(Run *, const SchemaNode *, const JsonView &, const Scope *, Seen *, \
                                  const PathStep *);                                                  \
    template bool function<true>(Run *, const SchemaNode *, const JsonView &, const Scope *, Seen *, const PathStep *);
INSTANTIATE(CheckArray)
INSTANTIATE(CheckObject)
INSTANTIATE(CheckUnevaluated)

}  // namespace herald
