// See folding.hpp. Texts are known by a 64-bit hash, and compared only where that is equal. The first few stand
// in a plain array, since most transactions have one; more of them in a hash table in the transaction's
// memory.

#include "outbox/folding.hpp"

extern "C" {
#include "common/hashfn.h"
#include "utils/hsearch.h"
}

namespace herald {

namespace {

constexpr uint32 kFew = 16;

struct Noted {
    uint64 hash;
    uint32 index;
};

Noted few[kFew];
uint32 few_count = 0;
HTAB *many = nullptr;  // once there were more: all of them

Noted *FindFew(uint64 hash) {
    for (uint32 i = 0; i < few_count; i++)
        if (few[i].hash == hash) return &few[i];
    return nullptr;
}

void MoveToTable() {
    HASHCTL control = {};
    control.keysize = sizeof(uint64);
    control.entrysize = sizeof(Noted);
    control.hcxt = TopTransactionContext;
    HTAB *table = hash_create("pg_herald folding", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    for (uint32 i = 0; i < few_count; i++)
        *static_cast<Noted *>(hash_search(table, &few[i].hash, HASH_ENTER, nullptr)) = few[i];
    many = table;
    few_count = 0;
}

Noted *Find(uint64 hash) {
    if (many == nullptr) return FindFew(hash);
    return static_cast<Noted *>(hash_search(many, &hash, HASH_FIND, nullptr));
}

// Texts are two strings each.
bool SameText(const char *one, const char *other) {
    return std::strcmp(one, other) == 0 && std::strcmp(one + std::strlen(one) + 1, other + std::strlen(other) + 1) == 0;
}

}  // namespace

uint64 HashOfText(const char *text, uint32 bytes) {
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(text), static_cast<int>(bytes), 0);
}

bool NoteForFolding(const char *text, uint32 bytes, uint32 index, const char *(*text_at)(uint32)) {
    const uint64 hash = HashOfText(text, bytes);
    // Two texts with one hash: only the first one can be recognised, the other is sent each time.
    if (const Noted *found = Find(hash); found != nullptr) return !SameText(text_at(found->index), text);
    if (many == nullptr && few_count == kFew) MoveToTable();
    if (many == nullptr)
        few[few_count++] = {hash, index};
    else
        *static_cast<Noted *>(hash_search(many, &hash, HASH_ENTER, nullptr)) = {hash, index};
    return true;
}

void ForgetForFolding(const char *text, uint32 bytes, uint32 index) {
    uint64 hash = HashOfText(text, bytes);
    Noted *found = Find(hash);
    if (found == nullptr || found->index != index) return;
    if (many == nullptr)
        *found = few[--few_count];
    else
        hash_search(many, &hash, HASH_REMOVE, nullptr);
}

void ForgetFolding() {
    few_count = 0;
    many = nullptr;
}

}  // namespace herald
