// See schema_compiler.hpp. First all places and identifiers are found, then the keywords of each place are
// read, which may lead to further places by references; at last loops are looked for.

#include "schema/schema_compiler.hpp"

#include "schema/schema_builder.hpp"
#include "schema/violations.hpp"

extern "C" {
#include "utils/hsearch.h"
}

namespace herald {

namespace {

constexpr int kMaxSchemaBytes = 1024 * 1024;

enum Visit : uint8 { kUnseen = 0, kOpen, kDone };

// Everything that is checked against the same value as the node itself is.
template <typename Callback>
void ForEachInPlace(const SchemaNode *node, Callback &&callback) {
    auto one = [&](SchemaNode *next) {
        if (next != nullptr) callback(next);
    };
    auto list = [&](const NodeList &nodes) {
        for (int i = 0; i < nodes.count; i++) callback(nodes.nodes[i]);
    };
    one(node->ref);
    // The target of a dynamic reference is known only while checking. There the depth of the stack ends a circle.
    if (node->dynamic_ref == nullptr) one(node->dynamic_default);
    if (const Applicators *rules = node->applicators; rules != nullptr) {
        list(rules->all_of);
        list(rules->any_of);
        list(rules->one_of);
        one(rules->no);
        one(rules->if_node);
        one(rules->then_node);
        one(rules->else_node);
    }
    if (node->object != nullptr)
        for (int i = 0; i < node->object->dependent_count; i++) one(node->object->dependents[i].node);
}

void RefuseLoops(const SchemaBuilder *builder, SchemaNode *node) {
    check_stack_depth();
    if (node->visit == kDone) return;
    if (node->visit == kOpen) RefuseSchema(builder, node, "", "leads back to itself without a step into the payload");
    node->visit = kOpen;
    ForEachInPlace(node, [&](SchemaNode *next) { RefuseLoops(builder, next); });
    node->visit = kDone;
}

void KeepDynamicAnchors(const SchemaBuilder *builder, CompiledSchema *schema) {
    DynamicAnchor *kept = NewInTree<DynamicAnchor>(builder, builder->anchors.count + 1);
    for (int i = 0; i < builder->anchors.count; i++) {
        const Anchor &anchor = builder->anchors.items[i];
        if (anchor.dynamic) kept[schema->dynamic_anchor_count++] = {anchor.resource, anchor.name, anchor.node};
    }
    schema->dynamic_anchors = kept;
}

CompiledSchema *Build(SchemaBuilder *builder, Jsonb *source, MemoryContext tree) {
    CompiledSchema *schema = NewInTree<CompiledSchema>(builder);
    schema->context = tree;
    schema->check_formats = builder->check_formats;
    schema->source = static_cast<Jsonb *>(MemoryContextAlloc(tree, VARSIZE(source)));
    std::memcpy(schema->source, source, VARSIZE(source));

    HASHCTL control;
    std::memset(&control, 0, sizeof(control));
    control.keysize = sizeof(const JsonbContainer *);
    control.entrysize = sizeof(Place);
    control.hcxt = CurrentMemoryContext;
    builder->places = hash_create("pg_herald schema places", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

    const JsonView view = ViewOf(schema->source);
    AddDocument(builder, view);
    schema->root = NodeAt(builder, view, nullptr, "", {}, -1);
    for (int i = 0; i < builder->pending.count; i++) {
        const Pending next = builder->pending.items[i];
        ReadKeywords(builder, next.node, next.view);
    }
    for (int i = 0; i < builder->pending.count; i++) RefuseLoops(builder, builder->pending.items[i].node);
    KeepDynamicAnchors(builder, schema);
    return schema;
}

}  // namespace

CompiledSchema *CompileSchema(Jsonb *source, bool check_formats, const char *what) {
    if (VARSIZE(source) > kMaxSchemaBytes)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("%s is too large", what),
                        errdetail("It has %u bytes as jsonb; at most %d are allowed.",
                                  static_cast<unsigned>(VARSIZE(source)), kMaxSchemaBytes)));
    MemoryContext tree = AllocSetContextCreate(CurrentMemoryContext, "pg_herald schema", ALLOCSET_SMALL_SIZES);
    MemoryContext work =
        AllocSetContextCreate(CurrentMemoryContext, "pg_herald schema compiler", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(work);
    SchemaBuilder builder{};
    builder.what = what;
    builder.check_formats = check_formats;
    builder.tree = tree;
    builder.pattern_space = kPatternSpace;
    CompiledSchema *schema = Build(&builder, source, tree);
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(work);
    return schema;
}

static char *PlaceOf(const SchemaNode *node, const char *keyword) {
    const char *path = SchemaPath(node, keyword);
    return path[0] == '\0' ? pstrdup("The schema") : psprintf("\"%s\"", path);
}

void RefuseSchema(const SchemaBuilder *builder, const SchemaNode *node, const char *keyword, const char *fault) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is no valid JSON Schema", builder->what),
                    errdetail("%s %s.", PlaceOf(node, keyword), fault)));
    pg_unreachable();
}

void RefuseUnsupported(const SchemaBuilder *builder, const SchemaNode *node, const char *keyword, const char *fault,
                       const char *hint) {
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s has something that is not supported", builder->what),
             errdetail("%s %s.", PlaceOf(node, keyword), fault), hint == nullptr ? 0 : errhint("%s", hint)));
    pg_unreachable();
}

}  // namespace herald
