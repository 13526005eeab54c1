// A compiled schema: a node per subschema, and in it a group of rules per type of value, NULL where there are
// none. Nodes refer to each other where the schema says $ref, so the tree may have cycles; every cycle goes
// through some step into the payload (the compiler sees to that), except by $dynamicRef.
//
// All of it lies in one memory context, and is not changed after it was compiled.

#pragma once

#include "core/formats.hpp"
#include "pg/pg.hpp"
#include "schema/json_view.hpp"
#include "schema/pattern.hpp"

namespace herald {

enum class Dialect : uint8 { kDraft7, kDraft2020 };

struct SchemaNode;

struct NodeList {
    SchemaNode **nodes;
    int count;
};

// A set of types: a bit for each JsonType, and one for numbers that are integers.
using TypeSet = uint8;
inline constexpr TypeSet TypeBit(JsonType type) { return static_cast<TypeSet>(1 << static_cast<int>(type)); }
inline constexpr TypeSet kIntegerBit = 1 << 6;
inline constexpr TypeSet kAnyType = 0x7f;

struct NumberRules {
    Numeric minimum;  // each may be NULL
    Numeric maximum;
    Numeric exclusive_minimum;
    Numeric exclusive_maximum;
    Numeric multiple_of;
};

struct StringRules {
    int64 min_length;  // characters
    int64 max_length;  // PG_INT64_MAX: no limit
    Pattern *pattern;  // may be NULL
    const char *pattern_source;
    core::FormatCheck format;  // may be NULL
    const char *format_name;
};

struct ArrayRules {
    int64 min_items;
    int64 max_items;
    bool unique;
    NodeList prefix;
    SchemaNode *rest;      // those after the prefix; may be NULL
    SchemaNode *contains;  // may be NULL
    int64 min_contains;
    int64 max_contains;
    bool contains_evaluates;  // what it matches counts as evaluated
    SchemaNode *unevaluated;  // may be NULL
};

// A name in "properties" or "required".
struct MemberRule {
    std::string_view name;
    SchemaNode *node;  // NULL: it is required only
    bool required;
};

struct PatternRule {
    Pattern *pattern;
    SchemaNode *node;
};

// What has to be where a member is: other members, or all that a schema says.
struct DependentRule {
    std::string_view name;
    const std::string_view *required;
    int required_count;
    SchemaNode *node;     // may be NULL
    const char *keyword;  // which one said so
};

struct ObjectRules {
    int64 min_properties;
    int64 max_properties;
    const MemberRule *members;  // in the order of jsonb
    int member_count;
    const PatternRule *patterns;
    int pattern_count;
    SchemaNode *additional;  // these may be NULL
    SchemaNode *names;
    SchemaNode *unevaluated;
    const DependentRule *dependents;
    int dependent_count;
};

struct ValueList {
    const JsonView *values;
    int count;
};

struct Applicators {
    NodeList all_of;
    NodeList any_of;
    NodeList one_of;
    SchemaNode *no;  // "not"; these may be NULL
    SchemaNode *if_node;
    SchemaNode *then_node;
    SchemaNode *else_node;
};

enum class NodeKind : uint8 { kRules, kAlways, kNever };

struct SchemaNode {
    // Where it stands: `keyword` of `parent`, and there a name, an index, or neither. The root of what was
    // compiled has a text instead.
    const SchemaNode *parent;
    const char *keyword;
    std::string_view name;
    int index;  // -1: none

    NodeKind kind;
    TypeSet types;
    bool tracks_evaluated;                // has unevaluatedItems or unevaluatedProperties
    uint8 visit;                          // of the search for loops
    int resource;                         // the schema resource it belongs to
    SchemaNode *ref;                      // these may be NULL
    const std::string_view *dynamic_ref;  // an anchor's name, to be looked for in the dynamic scope
    SchemaNode *dynamic_default;          // what it means where nothing else is found
    const ValueList *enumeration;
    const JsonView *constant;
    const NumberRules *number;
    const StringRules *string;
    const ArrayRules *array;
    const ObjectRules *object;
    const Applicators *applicators;
};

struct DynamicAnchor {
    int resource;
    std::string_view name;
    SchemaNode *node;
};

struct CompiledSchema {
    MemoryContext context;
    Jsonb *source;
    bool check_formats;
    SchemaNode *root;
    const DynamicAnchor *dynamic_anchors;
    int dynamic_anchor_count;
};

}  // namespace herald
