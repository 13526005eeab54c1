// What the parts of the check share. Each rule is checked by one template: as a mere yes or no that stops at
// once, and with a report of all that is wrong.

#pragma once

#include "pg/pg.hpp"
#include "schema/schema_tree.hpp"
#include "schema/violations.hpp"

namespace herald {

// A reference that was followed to where the check is; from the innermost outwards.
struct Jump {
    const Jump *outer;
    const SchemaNode *from;
    const char *keyword;
    const SchemaNode *to;
};

// One check of one payload.
struct Run {
    const CompiledSchema *schema;
    int64 steps_left;
    const Jump *jump;  // kept where violations are reported
    Violation *violations;
    int count;
    int limit;
    bool silent;  // nothing is reported: what could have been evaluated is looked for
};

// The schema resources that led here: where $dynamicRef looks.
struct Scope {
    int resource;
    const Scope *outer;
};

// Which members or elements of a value were evaluated by the rules so far. Only kept where a rule about the
// others waits for it.
class Seen {
public:
    explicit Seen(uint32 size) : size_(size) {
        if (size > 64)
            many_ = static_cast<uint64 *>(MemoryContextAllocExtended(CurrentMemoryContext, Words() * sizeof(uint64),
                                                                     MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
    }
    void Free() {
        if (many_ != nullptr) pfree(many_);
    }
    void Mark(uint32 i) { Word(i) |= Bit(i); }
    bool Has(uint32 i) { return (Word(i) & Bit(i)) != 0; }
    void MarkAll() {
        for (uint32 i = 0; i < Words(); i++) Word(i * 64) = ~static_cast<uint64>(0);
    }
    void Add(Seen *other) {
        for (uint32 i = 0; i < Words(); i++) Word(i * 64) |= other->Word(i * 64);
    }
    uint32 size() const { return size_; }

private:
    static uint64 Bit(uint32 i) { return static_cast<uint64>(1) << (i % 64); }
    uint32 Words() const { return size_ / 64 + 1; }
    uint64 &Word(uint32 i) { return many_ == nullptr ? few_ : many_[i / 64]; }
    uint64 few_ = 0;
    uint64 *many_ = nullptr;
    uint32 size_;
};

// When no steps are left, every further node fails unseen. So the check ends soon, and its result is thrown away: the
// caller looks at `steps_left` first.
inline void TakeSteps(Run *run, int64 steps) { run->steps_left -= steps; }

void AddViolation(Run *run, const SchemaNode *node, const char *keyword, const PathStep *path, char *message);

// Notes a violation where they are reported; `message` makes its text. Returns whether to go on.
template <bool kReport, typename Message>
inline bool Violated(Run *run, const SchemaNode *node, const char *keyword, const PathStep *path, Message &&message) {
    if constexpr (kReport) {
        if (run->silent) return true;
        if (run->count < run->limit) AddViolation(run, node, keyword, path, message());
        return run->count < run->limit;
    }
    return false;
}

// Checks a value against a node and all that it refers to. `seen` may be NULL, else gets what was evaluated:
// where the value does not fit, a report gets all that any rule looked at, else it means nothing.
template <bool kReport>
bool CheckNode(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
               const PathStep *path);

// The rules about elements and members, without those about unevaluated ones.
template <bool kReport>
bool CheckArray(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
                const PathStep *path);
template <bool kReport>
bool CheckObject(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
                 const PathStep *path);

// Those, when everything else was checked.
template <bool kReport>
bool CheckUnevaluated(Run *run, const SchemaNode *node, const JsonView &value, const Scope *scope, Seen *seen,
                      const PathStep *path);

}  // namespace herald
