// What the parts of the schema compiler share: schema_compiler.cpp drives, schema_index.cpp finds the places
// that references can lead to, schema_keywords.cpp reads keywords.

#pragma once

#include "pg/pg.hpp"
#include "schema/schema_tree.hpp"

namespace herald {

// A subschema's place: which resource it belongs to and which node it becomes. Keyed by its container; a
// schema that is true or false has none, and is a node each time.
struct Place {
    const JsonbContainer *container;
    SchemaNode *node;
};

// A schema with an identifier of its own, and the document's root.
struct Resource {
    std::string_view uri;
    uint32 hash;
    Dialect dialect;
    JsonView view;
};

struct Anchor {
    int resource;
    std::string_view name;
    uint32 hash;
    bool dynamic;
    SchemaNode *node;
};

template <typename Item>
struct Growing {
    Item *items;
    int count;
    int capacity;
    Item *Add() {
        if (count == capacity) {
            capacity = capacity == 0 ? 8 : capacity * 2;
            const Size size = sizeof(Item) * static_cast<Size>(capacity);
            items = static_cast<Item *>(items == nullptr ? palloc(size) : repalloc_huge(items, size));
        }
        items[count] = Item{};
        return &items[count++];
    }
};

// A node whose keywords are to be read.
struct Pending {
    SchemaNode *node;
    JsonView view;
};

struct SchemaBuilder {
    const char *what;  // the subject of messages
    bool check_formats;
    MemoryContext tree;  // for what stays
    int pattern_space;   // what is left of it
    HTAB *places;
    Growing<Resource> resources;
    Growing<Anchor> anchors;
    Growing<Pending> pending;
};

// Zeroed memory that stays.
template <typename Item>
Item *NewInTree(const SchemaBuilder *builder, int count = 1) {
    return static_cast<Item *>(MemoryContextAllocZero(builder->tree, sizeof(Item) * static_cast<Size>(count)));
}

// ERROR 22023: `fault` is about what stands at the keyword of the node; "" for the node itself.
[[noreturn]] void RefuseSchema(const SchemaBuilder *builder, const SchemaNode *node, const char *keyword,
                               const char *fault);
// ERROR 0A000, with a hint that may be NULL.
[[noreturn]] void RefuseUnsupported(const SchemaBuilder *builder, const SchemaNode *node, const char *keyword,
                                    const char *fault, const char *hint);

// Makes the document the first resource. Its draft is the one that it names, or 2020-12.
void AddDocument(SchemaBuilder *builder, const JsonView &document);

// The node of the schema that stands at that place, made at need. `parent` (NULL: it is the document) gives
// the resource, unless the schema has an identifier. Reads identifiers and anchors in it and below at once;
// its keywords are pending.
SchemaNode *NodeAt(SchemaBuilder *builder, const JsonView &view, const SchemaNode *parent, const char *keyword,
                   std::string_view name, int index);

// The node that a reference in `node` leads to. `anchor`, where not NULL, gets the dynamic anchor's name if
// it leads to one.
SchemaNode *ResolveReference(SchemaBuilder *builder, const SchemaNode *node, const char *keyword,
                             std::string_view reference, const std::string_view **anchor);

// Fills the node from the keywords of its schema.
void ReadKeywords(SchemaBuilder *builder, SchemaNode *node, const JsonView &schema);

}  // namespace herald
