// Reads the keywords of a schema into its node. A keyword of the wrong shape is refused, an unknown one
// ignored, as the specification has it.

#include "schema/schema_builder.hpp"

extern "C" {
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
}

namespace herald {

namespace {

// What all readers below need.
struct Reader {
    SchemaBuilder *builder;
    SchemaNode *node;
    const JsonView &schema;
    bool draft7;

    bool Find(const char *keyword, JsonView *value) const { return FindMember(schema, keyword, value); }
    [[noreturn]] void Refuse(const char *keyword, const char *fault) const {
        RefuseSchema(builder, node, keyword, fault);
    }

    bool Object(const char *keyword, JsonView *value) const {
        if (!Find(keyword, value)) return false;
        if (value->type != JsonType::kObject) Refuse(keyword, "must be an object");
        return true;
    }
    bool Text(const char *keyword, std::string_view *text) const {
        JsonView value;
        if (!Find(keyword, &value)) return false;
        if (value.type != JsonType::kString) Refuse(keyword, "must be a string");
        *text = value.text();
        return true;
    }
    Numeric Number(const char *keyword) const {
        JsonView value;
        if (!Find(keyword, &value)) return nullptr;
        if (value.type != JsonType::kNumber) Refuse(keyword, "must be a number");
        return value.number;
    }
    int64 Count(const char *keyword, int64 otherwise) const {
        Numeric number = Number(keyword);
        if (number == nullptr) return otherwise;
        if (!IsInteger(number) || CompareNumbers(number, int64_to_numeric(0)) < 0)
            Refuse(keyword, "must be an integer that is not negative");
        // Nothing has so many members or characters.
        if (CompareNumbers(number, int64_to_numeric(PG_INT64_MAX)) >= 0) return PG_INT64_MAX;
        return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(number)));
    }
    SchemaNode *Schema(const char *keyword) const {
        JsonView value;
        if (!Find(keyword, &value)) return nullptr;
        return NodeAt(builder, value, node, keyword, {}, -1);
    }
    NodeList Schemas(const char *keyword) const {
        NodeList list{};
        JsonView value;
        if (!Find(keyword, &value)) return list;
        if (value.type != JsonType::kArray || value.size == 0)
            Refuse(keyword, "must be an array of one schema at least");
        list.nodes = NewInTree<SchemaNode *>(builder, static_cast<int>(value.size));
        for (ArrayWalk walk(value); walk.Next(); list.count++)
            list.nodes[list.count] = NodeAt(builder, walk.value, node, keyword, {}, list.count);
        return list;
    }
};

int CompareMembers(const void *left, const void *right) {
    return CompareKeys(static_cast<const MemberRule *>(left)->name, static_cast<const MemberRule *>(right)->name);
}

TypeSet TypeOfName(const Reader &reader, const JsonView &name) {
    constexpr const char *kFault = "must be one of the types of JSON, or an array of some";
    if (name.type != JsonType::kString) reader.Refuse("type", kFault);
    if (name.text() == "integer") return kIntegerBit;
    if (name.text() == "number") return TypeBit(JsonType::kNumber) | kIntegerBit;
    for (JsonType type : {JsonType::kNull, JsonType::kBoolean, JsonType::kString, JsonType::kArray, JsonType::kObject})
        if (name.text() == NameOfType(type)) return TypeBit(type);
    reader.Refuse("type", kFault);
}

void ReadTypes(const Reader &reader) {
    JsonView value;
    if (!reader.Find("type", &value)) return;
    reader.node->types = 0;
    if (value.type != JsonType::kArray) {
        reader.node->types = TypeOfName(reader, value);
        return;
    }
    if (value.size == 0) reader.Refuse("type", "must not be empty");
    for (ArrayWalk walk(value); walk.Next();) reader.node->types |= TypeOfName(reader, walk.value);
}

void ReadValues(const Reader &reader) {
    JsonView value;
    if (reader.Find("const", &value)) {
        JsonView *constant = NewInTree<JsonView>(reader.builder);
        *constant = value;
        reader.node->constant = constant;
    }
    if (!reader.Find("enum", &value)) return;
    if (value.type != JsonType::kArray) reader.Refuse("enum", "must be an array");
    ValueList *list = NewInTree<ValueList>(reader.builder);
    JsonView *values = NewInTree<JsonView>(reader.builder, static_cast<int>(value.size) + 1);
    for (ArrayWalk walk(value); walk.Next();) values[list->count++] = walk.value;
    list->values = values;
    reader.node->enumeration = list;
}

void ReadNumberRules(const Reader &reader) {
    const NumberRules rules = {reader.Number("minimum"), reader.Number("maximum"), reader.Number("exclusiveMinimum"),
                               reader.Number("exclusiveMaximum"), reader.Number("multipleOf")};
    if (rules.multiple_of != nullptr && CompareNumbers(rules.multiple_of, int64_to_numeric(0)) <= 0)
        reader.Refuse("multipleOf", "must be greater than 0");
    if (rules.minimum == nullptr && rules.maximum == nullptr && rules.exclusive_minimum == nullptr &&
        rules.exclusive_maximum == nullptr && rules.multiple_of == nullptr)
        return;
    NumberRules *kept = NewInTree<NumberRules>(reader.builder);
    *kept = rules;
    reader.node->number = kept;
}

char *CopyText(const Reader &reader, std::string_view text) {
    char *copy = NewInTree<char>(reader.builder, static_cast<int>(text.size()) + 1);
    std::memcpy(copy, text.data(), text.size());
    return copy;
}

Pattern *ReadPattern(const Reader &reader, const char *keyword, std::string_view source) {
    PatternFault fault;
    Pattern *pattern = CompilePattern(source, reader.builder->tree, &reader.builder->pattern_space, &fault);
    if (pattern != nullptr) return pattern;
    const char *what =
        psprintf("%s: the regular expression \"%.*s\" %s", "can't be used",
                 pg_mbcliplen(source.data(), static_cast<int>(source.size()), 100), source.data(), fault.fault);
    if (fault.unsupported) RefuseUnsupported(reader.builder, reader.node, keyword, what, nullptr);
    reader.Refuse(keyword, what);
}

void ReadStringRules(const Reader &reader) {
    StringRules rules{};
    std::string_view text;
    rules.min_length = reader.Count("minLength", 0);
    rules.max_length = reader.Count("maxLength", PG_INT64_MAX);
    if (reader.Text("pattern", &text)) {
        rules.pattern = ReadPattern(reader, "pattern", text);
        rules.pattern_source = CopyText(reader, text);
    }
    if (reader.Text("format", &text) && reader.builder->check_formats) {
        rules.format = text == "regex" ? IsEcmaRegex : core::FormatByName(text);
        rules.format_name = CopyText(reader, text);
    }
    if (rules.min_length == 0 && rules.max_length == PG_INT64_MAX && rules.pattern == nullptr &&
        rules.format == nullptr)
        return;
    StringRules *kept = NewInTree<StringRules>(reader.builder);
    *kept = rules;
    reader.node->string = kept;
}

void ReadItems(const Reader &reader, ArrayRules *rules) {
    JsonView items;
    if (!reader.draft7) {
        rules->prefix = reader.Schemas("prefixItems");
        if (reader.Find("items", &items) && items.type == JsonType::kArray)
            reader.Refuse("items", "must be a schema; an array of them is \"prefixItems\" in this draft");
        rules->rest = reader.Schema("items");
        rules->unevaluated = reader.Schema("unevaluatedItems");
        return;
    }
    if (!reader.Find("items", &items)) return;
    if (items.type != JsonType::kArray) {
        rules->rest = reader.Schema("items");
        return;
    }
    if (items.size > 0) rules->prefix = reader.Schemas("items");
    rules->rest = reader.Schema("additionalItems");
}

void ReadArrayRules(const Reader &reader) {
    ArrayRules rules{};
    JsonView value;
    ReadItems(reader, &rules);
    rules.min_items = reader.Count("minItems", 0);
    rules.max_items = reader.Count("maxItems", PG_INT64_MAX);
    rules.contains = reader.Schema("contains");
    rules.contains_evaluates = !reader.draft7;
    rules.min_contains = reader.draft7 ? 1 : reader.Count("minContains", 1);
    rules.max_contains = reader.draft7 ? PG_INT64_MAX : reader.Count("maxContains", PG_INT64_MAX);
    if (reader.Find("uniqueItems", &value)) {
        if (value.type != JsonType::kBoolean) reader.Refuse("uniqueItems", "must be a boolean");
        rules.unique = value.boolean;
    }
    if (rules.prefix.count == 0 && rules.rest == nullptr && rules.contains == nullptr && rules.unevaluated == nullptr &&
        rules.min_items == 0 && rules.max_items == PG_INT64_MAX && !rules.unique)
        return;
    ArrayRules *kept = NewInTree<ArrayRules>(reader.builder);
    *kept = rules;
    reader.node->array = kept;
    reader.node->tracks_evaluated |= rules.unevaluated != nullptr;
}

std::string_view *ReadNames(const Reader &reader, const char *keyword, const JsonView &value, int *count) {
    constexpr const char *kFault = "must hold arrays of strings";
    if (value.type != JsonType::kArray) reader.Refuse(keyword, kFault);
    std::string_view *names = NewInTree<std::string_view>(reader.builder, static_cast<int>(value.size) + 1);
    *count = 0;
    for (ArrayWalk walk(value); walk.Next();) {
        if (walk.value.type != JsonType::kString) reader.Refuse(keyword, kFault);
        names[(*count)++] = walk.value.text();
    }
    return names;
}

// "properties" and "required" as one list, sorted.
void ReadMembers(const Reader &reader, ObjectRules *rules) {
    JsonView properties{};
    JsonView required{};
    (void)reader.Object("properties", &properties);
    if (reader.Find("required", &required) && required.type != JsonType::kArray)
        reader.Refuse("required", "must be an array of strings");
    const int limit = static_cast<int>(properties.size + required.size);
    if (limit == 0) return;

    MemberRule *members = NewInTree<MemberRule>(reader.builder, limit);
    int count = 0;
    if (properties.size > 0)
        for (ObjectWalk walk(properties); walk.Next();)
            members[count++] = {walk.key.text(),
                                NodeAt(reader.builder, walk.value, reader.node, "properties", walk.key.text(), -1),
                                false};
    if (required.size > 0)
        for (ArrayWalk walk(required); walk.Next();) {
            if (walk.value.type != JsonType::kString) reader.Refuse("required", "must be an array of strings");
            members[count++] = {walk.value.text(), nullptr, true};
        }
    qsort(members, static_cast<size_t>(count), sizeof(MemberRule), CompareMembers);
    int kept = 0;
    for (int i = 0; i < count; i++) {
        if (kept > 0 && members[kept - 1].name == members[i].name) {
            if (members[i].node != nullptr) members[kept - 1].node = members[i].node;
            members[kept - 1].required |= members[i].required;
        } else {
            members[kept++] = members[i];
        }
    }
    rules->members = members;
    rules->member_count = kept;
}

void ReadPatternProperties(const Reader &reader, ObjectRules *rules) {
    JsonView value;
    if (!reader.Object("patternProperties", &value) || value.size == 0) return;
    PatternRule *patterns = NewInTree<PatternRule>(reader.builder, static_cast<int>(value.size));
    for (ObjectWalk walk(value); walk.Next();)
        patterns[rules->pattern_count++] = {
            ReadPattern(reader, "patternProperties", walk.key.text()),
            NodeAt(reader.builder, walk.value, reader.node, "patternProperties", walk.key.text(), -1)};
    rules->patterns = patterns;
}

void ReadDependents(const Reader &reader, ObjectRules *rules) {
    constexpr const char *kKeywords[] = {"dependencies", "dependentRequired", "dependentSchemas"};
    JsonView values[3] = {};
    int limit = 0;
    for (int i = 0; i < 3; i++) {
        if ((i == 0) != reader.draft7) continue;
        if (reader.Object(kKeywords[i], &values[i])) limit += static_cast<int>(values[i].size);
    }
    if (limit == 0) return;
    DependentRule *dependents = NewInTree<DependentRule>(reader.builder, limit);
    for (int i = 0; i < 3; i++) {
        if (values[i].size == 0) continue;
        for (ObjectWalk walk(values[i]); walk.Next();) {
            DependentRule *rule = &dependents[rules->dependent_count++];
            rule->name = walk.key.text();
            rule->keyword = kKeywords[i];
            if (i == 1 || (i == 0 && walk.value.type == JsonType::kArray))
                rule->required = ReadNames(reader, kKeywords[i], walk.value, &rule->required_count);
            else
                rule->node = NodeAt(reader.builder, walk.value, reader.node, kKeywords[i], walk.key.text(), -1);
        }
    }
    rules->dependents = dependents;
}

void ReadObjectRules(const Reader &reader) {
    ObjectRules rules{};
    ReadMembers(reader, &rules);
    ReadPatternProperties(reader, &rules);
    ReadDependents(reader, &rules);
    rules.min_properties = reader.Count("minProperties", 0);
    rules.max_properties = reader.Count("maxProperties", PG_INT64_MAX);
    rules.additional = reader.Schema("additionalProperties");
    rules.names = reader.Schema("propertyNames");
    if (!reader.draft7) rules.unevaluated = reader.Schema("unevaluatedProperties");
    if (rules.member_count == 0 && rules.pattern_count == 0 && rules.dependent_count == 0 &&
        rules.additional == nullptr && rules.names == nullptr && rules.unevaluated == nullptr &&
        rules.min_properties == 0 && rules.max_properties == PG_INT64_MAX)
        return;
    ObjectRules *kept = NewInTree<ObjectRules>(reader.builder);
    *kept = rules;
    reader.node->object = kept;
    reader.node->tracks_evaluated |= rules.unevaluated != nullptr;
}

void ReadApplicators(const Reader &reader) {
    Applicators rules{};
    rules.all_of = reader.Schemas("allOf");
    rules.any_of = reader.Schemas("anyOf");
    rules.one_of = reader.Schemas("oneOf");
    rules.no = reader.Schema("not");
    rules.if_node = reader.Schema("if");
    rules.then_node = reader.Schema("then");
    rules.else_node = reader.Schema("else");
    if (rules.all_of.count == 0 && rules.any_of.count == 0 && rules.one_of.count == 0 && rules.no == nullptr &&
        rules.if_node == nullptr)
        return;
    Applicators *kept = NewInTree<Applicators>(reader.builder);
    *kept = rules;
    reader.node->applicators = kept;
}

// Definitions must be right even if nothing refers to them.
void ReadDefinitions(const Reader &reader) {
    JsonView value;
    for (const char *keyword : {"definitions", "$defs"}) {
        if ((keyword[0] == '$' && reader.draft7) || !reader.Object(keyword, &value)) continue;
        for (ObjectWalk walk(value); walk.Next();)
            (void)NodeAt(reader.builder, walk.value, reader.node, keyword, walk.key.text(), -1);
    }
}

}  // namespace

void ReadKeywords(SchemaBuilder *builder, SchemaNode *node, const JsonView &schema) {
    const bool draft7 = builder->resources.items[node->resource].dialect == Dialect::kDraft7;
    const Reader reader{builder, node, schema, draft7};
    std::string_view reference;

    CHECK_FOR_INTERRUPTS();
    ReadDefinitions(reader);
    if (reader.Text("$ref", &reference)) {
        node->ref = ResolveReference(builder, node, "$ref", reference, nullptr);
        if (draft7) return;
    }
    if (!draft7 && reader.Text("$dynamicRef", &reference))
        node->dynamic_default = ResolveReference(builder, node, "$dynamicRef", reference, &node->dynamic_ref);
    ReadTypes(reader);
    ReadValues(reader);
    ReadNumberRules(reader);
    ReadStringRules(reader);
    ReadArrayRules(reader);
    ReadObjectRules(reader);
    ReadApplicators(reader);
}

}  // namespace herald
