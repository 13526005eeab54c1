// What a payload violates: where in the payload, which keyword of the schema, and what it says. Both places are
// JSON pointers. Messages tell the rule and never a value of the payload, so they may go to a log; names of
// members stand in the pointer.

#pragma once

#include "pg/pg.hpp"
#include "schema/schema_tree.hpp"

namespace herald {

// A step into the payload; the steps of one place are linked from the innermost outwards.
struct PathStep {
    const PathStep *up;
    std::string_view key;  // data() NULL: an element, see index
    uint32 index;
};

struct Violation {
    char *payload_path;
    char *schema_path;
    char *keyword_location;  // on the way that the check took: through the references that it followed
    char *message;
};

// Both in the current memory context. `step` NULL: the payload as a whole, "". `keyword` "": the node itself.
// `start`: the node above it where the path begins; NULL: the root.
char *PayloadPath(const PathStep *step);
char *SchemaPath(const SchemaNode *node, const char *keyword, const SchemaNode *start = nullptr);

// "/a/b" must be ..., without the place in the schema; a long path is cut.
char *DescribeViolation(const Violation &violation);

// "must be a string or null".
char *ExpectedTypes(TypeSet types);
// "1, 2 or "x"": values of the schema.
char *ListValues(const ValueList &list);
// "1 element", "2 elements".
char *Count(int64 count, const char *one, const char *many);
// A value of the schema (not of the payload) as JSON, cut where it is long.
char *ShortJson(const JsonView &value);

}  // namespace herald
