// Places, identifiers and references: see schema_builder.hpp. Identifiers count only where a subschema may
// stand; what looks like one within "enum" or an unknown keyword is none.

#include "core/uri.hpp"
#include "schema/schema_builder.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace herald {

namespace {

enum class Holds : uint8 { kSchema, kArray, kMap, kSchemaOrArray };
constexpr uint8 kIn7 = 1;
constexpr uint8 kIn2020 = 2;

// Where subschemas stand.
constexpr struct {
    const char *keyword;
    Holds holds;
    uint8 dialects;
} kApplicators[] = {
    {"$defs", Holds::kMap, kIn2020},
    {"definitions", Holds::kMap, kIn7 | kIn2020},
    {"properties", Holds::kMap, kIn7 | kIn2020},
    {"patternProperties", Holds::kMap, kIn7 | kIn2020},
    {"additionalProperties", Holds::kSchema, kIn7 | kIn2020},
    {"propertyNames", Holds::kSchema, kIn7 | kIn2020},
    {"unevaluatedProperties", Holds::kSchema, kIn2020},
    {"dependentSchemas", Holds::kMap, kIn2020},
    {"dependencies", Holds::kMap, kIn7},
    {"prefixItems", Holds::kArray, kIn2020},
    {"items", Holds::kSchemaOrArray, kIn7},
    {"items", Holds::kSchema, kIn2020},
    {"additionalItems", Holds::kSchema, kIn7},
    {"unevaluatedItems", Holds::kSchema, kIn2020},
    {"contains", Holds::kSchema, kIn7 | kIn2020},
    {"allOf", Holds::kArray, kIn7 | kIn2020},
    {"anyOf", Holds::kArray, kIn7 | kIn2020},
    {"oneOf", Holds::kArray, kIn7 | kIn2020},
    {"not", Holds::kSchema, kIn7 | kIn2020},
    {"if", Holds::kSchema, kIn7 | kIn2020},
    {"then", Holds::kSchema, kIn7 | kIn2020},
    {"else", Holds::kSchema, kIn7 | kIn2020},
};

constexpr std::size_t kMaxUriBytes = 8192;

uint32 HashOf(std::string_view text) {
    return hash_bytes(reinterpret_cast<const unsigned char *>(text.data()), static_cast<int>(text.size()));
}

bool TextMember(const SchemaBuilder *builder, const SchemaNode *node, const JsonView &schema, const char *keyword,
                std::string_view *text) {
    JsonView value;
    if (!FindMember(schema, keyword, &value)) return false;
    if (value.type != JsonType::kString) RefuseSchema(builder, node, keyword, "must be a string");
    *text = value.text();
    return true;
}

Dialect DialectOf(const SchemaBuilder *builder, const SchemaNode *node, std::string_view uri) {
    if (!uri.empty() && uri.back() == '#') uri.remove_suffix(1);
    if (uri == "https://json-schema.org/draft/2020-12/schema") return Dialect::kDraft2020;
    if (uri == "http://json-schema.org/draft-07/schema" || uri == "https://json-schema.org/draft-07/schema")
        return Dialect::kDraft7;
    RefuseUnsupported(builder, node, "$schema", "names a draft or dialect that is not known",
                      "Known are https://json-schema.org/draft/2020-12/schema, which is the default, and "
                      "http://json-schema.org/draft-07/schema#.");
}

// In the tree's memory, without the fragment. Each is kept, so that many of a long base would take a lot.
std::string_view Resolve(const SchemaBuilder *builder, const SchemaNode *node, const char *keyword,
                         std::string_view reference) {
    const std::string_view base = builder->resources.items[node->resource].uri;
    if (base.size() + reference.size() > kMaxUriBytes)
        RefuseUnsupported(builder, node, keyword, "makes a URI of more than 8192 bytes", nullptr);
    char *uri = NewInTree<char>(builder, static_cast<int>(base.size() + reference.size()) + 4);
    return {uri, core::ResolveUri(base, reference, uri)};
}

int FindResource(const SchemaBuilder *builder, std::string_view uri) {
    const uint32 hash = HashOf(uri);
    CHECK_FOR_INTERRUPTS();
    for (int i = 0; i < builder->resources.count; i++)
        if (builder->resources.items[i].hash == hash && builder->resources.items[i].uri == uri) return i;
    return -1;
}

const Anchor *FindAnchor(const SchemaBuilder *builder, int resource, std::string_view name) {
    const uint32 hash = HashOf(name);
    CHECK_FOR_INTERRUPTS();
    for (int i = 0; i < builder->anchors.count; i++) {
        const Anchor &anchor = builder->anchors.items[i];
        if (anchor.resource == resource && anchor.hash == hash && anchor.name == name) return &anchor;
    }
    return nullptr;
}

void AddAnchor(SchemaBuilder *builder, SchemaNode *node, const char *keyword, std::string_view name, bool dynamic) {
    if (name.empty()) RefuseSchema(builder, node, keyword, "must not be empty");
    if (FindAnchor(builder, node->resource, name) != nullptr)
        RefuseSchema(builder, node, keyword, "names something twice");
    *builder->anchors.Add() = {node->resource, name, HashOf(name), dynamic, node};
}

void AddResource(SchemaBuilder *builder, SchemaNode *node, const JsonView &schema, std::string_view uri,
                 Dialect dialect) {
    if (FindResource(builder, uri) >= 0) RefuseSchema(builder, node, "$id", "names something twice");
    node->resource = builder->resources.count;
    *builder->resources.Add() = {uri, HashOf(uri), dialect, schema};
}

// Identifiers of the schema, which is a place already.
void ReadIdentifiers(SchemaBuilder *builder, SchemaNode *node, const JsonView &schema) {
    std::string_view text;
    JsonView other;
    Dialect dialect = builder->resources.items[node->resource].dialect;
    // An embedded resource may be of the other draft, and says so before its identifier is understood.
    if (FindMember(schema, "$schema", &other) && FindMember(schema, "$id", &other) &&
        TextMember(builder, node, schema, "$schema", &text))
        dialect = DialectOf(builder, node, text);
    const bool draft7 = dialect == Dialect::kDraft7;

    // In draft-07 a reference hides all that stands beside it.
    if (draft7 && FindMember(schema, "$ref", &other)) return;

    if (TextMember(builder, node, schema, "$id", &text)) {
        const std::size_t hash = text.find('#');
        const std::string_view fragment = hash == std::string_view::npos ? std::string_view() : text.substr(hash + 1);
        if (!fragment.empty() && !draft7)
            RefuseSchema(builder, node, "$id", "must not have a fragment: that is \"$anchor\"");
        if (hash != 0) {
            AddResource(builder, node, schema, Resolve(builder, node, "$id", text), dialect);
        }
        if (!fragment.empty()) AddAnchor(builder, node, "$id", fragment, false);
    }
    if (draft7) return;
    if (TextMember(builder, node, schema, "$anchor", &text)) AddAnchor(builder, node, "$anchor", text, false);
    if (TextMember(builder, node, schema, "$dynamicAnchor", &text))
        AddAnchor(builder, node, "$dynamicAnchor", text, true);
}

bool IsSchema(const JsonView &view) { return view.type == JsonType::kObject || view.type == JsonType::kBoolean; }

// A value that is no schema is passed over here; the reader of its keyword refuses it.
void IndexSubschemas(SchemaBuilder *builder, const SchemaNode *node, const JsonView &schema) {
    JsonView value;
    const Dialect dialect = builder->resources.items[node->resource].dialect;
    const uint8 in = dialect == Dialect::kDraft7 ? kIn7 : kIn2020;
    for (const auto &applicator : kApplicators) {
        if ((applicator.dialects & in) == 0 || !FindMember(schema, applicator.keyword, &value)) continue;
        if (value.type == JsonType::kObject && applicator.holds == Holds::kMap) {
            for (ObjectWalk walk(value); walk.Next();)
                if (walk.value.type == JsonType::kObject)
                    (void)NodeAt(builder, walk.value, node, applicator.keyword, walk.key.text(), -1);
        } else if (value.type == JsonType::kArray &&
                   (applicator.holds == Holds::kArray || applicator.holds == Holds::kSchemaOrArray)) {
            for (ArrayWalk walk(value); walk.Next();)
                if (walk.value.type == JsonType::kObject)
                    (void)NodeAt(builder, walk.value, node, applicator.keyword, {}, static_cast<int>(walk.index) - 1);
        } else if (value.type == JsonType::kObject && applicator.holds != Holds::kArray) {
            (void)NodeAt(builder, value, node, applicator.keyword, {}, -1);
        }
    }
}

// Follows a JSON pointer, already without %-escapes, from a resource's root. The nearest place above the
// target gives it its resource.
SchemaNode *FollowPointer(SchemaBuilder *builder, const SchemaNode *node, const char *keyword, int resource,
                          char *pointer, std::size_t length) {
    JsonView view = builder->resources.items[resource].view;
    const SchemaNode *above = nullptr;
    char *token = pointer;
    char *end = pointer + length;
    const char *since = pointer;  // what follows the place above

    while (true) {
        if (view.type == JsonType::kObject) {
            const Place *place =
                static_cast<const Place *>(hash_search(builder->places, &view.container, HASH_FIND, nullptr));
            if (place != nullptr) {
                above = place->node;
                since = token;
            }
        }
        if (token == end) break;
        char *next = static_cast<char *>(std::memchr(token + 1, '/', static_cast<Size>(end - token - 1)));
        if (next == nullptr) next = end;
        char *plain = NewInTree<char>(builder, static_cast<int>(next - token));
        std::size_t size = 0;
        for (const char *c = token + 1; c < next; c++) {
            plain[size] = *c;
            if (*c == '~' && c + 1 < next && (c[1] == '0' || c[1] == '1')) plain[size] = *++c == '0' ? '~' : '/';
            size++;
        }
        const std::string_view name(plain, size);
        bool found = false;
        if (view.type == JsonType::kObject) {
            found = FindMember(view, name, &view);
        } else if (view.type == JsonType::kArray && size > 0 && size < 8 &&
                   name.find_first_not_of("0123456789") == std::string_view::npos) {
            const uint32 index = static_cast<uint32>(atoi(plain));
            found = index < view.size;
            if (found) view = EntryWalk(view.container, index, view.size).Take();
        }
        if (!found) RefuseSchema(builder, node, keyword, "refers to something that is not there");
        token = next;
    }
    if (!IsSchema(view)) RefuseSchema(builder, node, keyword, "refers to something that is no schema");
    char *rest = NewInTree<char>(builder, static_cast<int>(end - since) + 1);
    if (end > since) std::memcpy(rest, since + 1, static_cast<Size>(end - since) - 1);
    return NodeAt(builder, view, above, rest, {}, -1);
}

}  // namespace

void AddDocument(SchemaBuilder *builder, const JsonView &document) {
    Resource *resource = builder->resources.Add();
    *resource = {{}, HashOf({}), Dialect::kDraft2020, document};
    JsonView text;
    if (document.type != JsonType::kObject || !FindMember(document, "$schema", &text)) return;
    const SchemaNode root{};
    if (text.type != JsonType::kString) RefuseSchema(builder, &root, "$schema", "must be a string");
    resource->dialect = DialectOf(builder, &root, text.text());
}

SchemaNode *NodeAt(SchemaBuilder *builder, const JsonView &view, const SchemaNode *parent, const char *keyword,
                   std::string_view name, int index) {
    check_stack_depth();
    CHECK_FOR_INTERRUPTS();
    Place *place = nullptr;
    if (view.type == JsonType::kObject) {
        bool found;
        place = static_cast<Place *>(hash_search(builder->places, &view.container, HASH_ENTER, &found));
        if (found) return place->node;
    }
    SchemaNode *node = NewInTree<SchemaNode>(builder);
    node->parent = parent;
    node->keyword = keyword;
    node->name = name;
    node->index = index;
    node->types = kAnyType;
    node->resource = parent == nullptr ? 0 : parent->resource;
    if (place != nullptr) {
        place->node = node;
        ReadIdentifiers(builder, node, view);
        *builder->pending.Add() = {node, view};
        IndexSubschemas(builder, node, view);
    } else if (view.type == JsonType::kBoolean) {
        node->kind = view.boolean ? NodeKind::kAlways : NodeKind::kNever;
    } else {
        RefuseSchema(builder, node, "", "must be an object or a boolean");
    }
    return node;
}

SchemaNode *ResolveReference(SchemaBuilder *builder, const SchemaNode *node, const char *keyword,
                             std::string_view reference, const std::string_view **anchor_name) {
    const std::size_t hash = reference.find('#');
    std::string_view fragment = hash == std::string_view::npos ? std::string_view() : reference.substr(hash + 1);
    int resource = node->resource;
    if (hash != 0 && !reference.empty()) {
        resource = FindResource(builder, Resolve(builder, node, keyword, reference));
        if (resource < 0)
            RefuseUnsupported(builder, node, keyword, "refers to another document, and none is fetched",
                              builder->resources.items[node->resource].dialect == Dialect::kDraft7
                                  ? "Put that document under \"definitions\" of this one, with its \"$id\"."
                                  : "Put that document under \"$defs\" of this one, with its \"$id\".");
    }
    char *decoded = NewInTree<char>(builder, static_cast<int>(fragment.size()) + 1);
    const std::ptrdiff_t length = core::DecodePercent(fragment, decoded);
    if (length < 0) RefuseSchema(builder, node, keyword, "has a wrong %-escape");
    const std::string_view plain(decoded, static_cast<std::size_t>(length));
    if (plain.empty() || plain[0] == '/') return FollowPointer(builder, node, keyword, resource, decoded, plain.size());

    const Anchor *anchor = FindAnchor(builder, resource, plain);
    if (anchor == nullptr) RefuseSchema(builder, node, keyword, "refers to an anchor that is not there");
    if (anchor->dynamic && anchor_name != nullptr) {
        std::string_view *name = NewInTree<std::string_view>(builder);
        *name = plain;
        *anchor_name = name;
    }
    return anchor->node;
}

}  // namespace herald
