// See schema_cache.hpp.

#include "schema/schema_cache.hpp"

#include "schema/schema_compiler.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace herald {

namespace {

constexpr int kSlots = 64;
constexpr Size kMaxBytes = 16 * 1024 * 1024;  // of all together, unless a single one has more

struct Slot {
    CompiledSchema *schema;  // NULL: free
    uint32 hash;
    uint64 serial;
    uint64 used;
    Size bytes;
};

Slot slots[kSlots];
uint64 clock_ticks = 0;
uint64 last_serial = 0;

uint32 HashOf(Jsonb *source) {
    return hash_bytes(reinterpret_cast<const unsigned char *>(VARDATA(source)),
                      static_cast<int>(VARSIZE(source) - VARHDRSZ));
}

bool Matches(const Slot &slot, Jsonb *source, bool check_formats, uint32 hash) {
    return slot.schema != nullptr && slot.hash == hash && slot.schema->check_formats == check_formats &&
           VARSIZE(slot.schema->source) == VARSIZE(source) &&
           std::memcmp(slot.schema->source, source, VARSIZE(source)) == 0;
}

void Drop(Slot *slot) {
    MemoryContextDelete(slot->schema->context);
    *slot = Slot{};
}

// A free slot, with room for so many bytes.
Slot *MakeRoom(Size bytes) {
    while (true) {
        Slot *free = nullptr;
        Slot *oldest = nullptr;
        Size total = bytes;
        for (Slot &slot : slots) {
            if (slot.schema == nullptr) {
                free = &slot;
                continue;
            }
            total += slot.bytes;
            if (oldest == nullptr || slot.used < oldest->used) oldest = &slot;
        }
        if (free != nullptr && (total <= kMaxBytes || oldest == nullptr)) return free;
        Drop(oldest);
    }
}

}  // namespace

const CompiledSchema *CompiledFor(Jsonb *source, bool check_formats, const char *what, SchemaHandle *handle) {
    const uint32 hash = HashOf(source);
    Slot *found = nullptr;
    for (Slot &slot : slots)
        if (Matches(slot, source, check_formats, hash)) found = &slot;
    if (found == nullptr) {
        CompiledSchema *schema = CompileSchema(source, check_formats, what);
        const Size bytes = MemoryContextMemAllocated(schema->context, true);
        found = MakeRoom(bytes);
        MemoryContextSetParent(schema->context, TopMemoryContext);
        *found = {schema, hash, ++last_serial, 0, bytes};
    }
    found->used = ++clock_ticks;
    if (handle != nullptr) *handle = {static_cast<int>(found - slots), found->serial};
    return found->schema;
}

const CompiledSchema *CompiledByHandle(const SchemaHandle &handle) {
    Slot &slot = slots[handle.slot];
    if (handle.serial == 0 || slot.serial != handle.serial) return nullptr;
    slot.used = ++clock_ticks;
    return slot.schema;
}

}  // namespace herald
