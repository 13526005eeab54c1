// See folding.hpp. A hash table by 64-bit hash, in the transaction's memory; the texts themselves are
// compared only where the hashes are equal.

#include "outbox/folding.hpp"

extern "C" {
#include "common/hashfn.h"
#include "utils/hsearch.h"
}

namespace herald {

namespace {

struct Noted {
    uint64 hash;
    uint32 index;
};

HTAB *noted = nullptr;

}  // namespace

uint64 HashOfText(const char *text, uint32 bytes) {
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(text),
                               static_cast<int>(bytes), 0);
}

bool NoteForFolding(const char *text, uint32 bytes, uint32 index, const char *(*text_at)(uint32)) {
    if (noted == nullptr) {
        HASHCTL control = {};
        control.keysize = sizeof(uint64);
        control.entrysize = sizeof(Noted);
        control.hcxt = TopTransactionContext;
        noted = hash_create("pg_herald folding", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
    uint64 hash = HashOfText(text, bytes);
    bool found;
    Noted *entry = static_cast<Noted *>(hash_search(noted, &hash, HASH_ENTER, &found));
    // Two texts with one hash: only the first one can be recognised, the other is sent each time.
    if (found) return std::memcmp(text_at(entry->index), text, bytes) != 0;
    entry->index = index;
    return true;
}

void ForgetForFolding(const char *text, uint32 bytes, uint32 index) {
    uint64 hash = HashOfText(text, bytes);
    if (noted == nullptr) return;
    Noted *entry = static_cast<Noted *>(hash_search(noted, &hash, HASH_FIND, nullptr));
    if (entry != nullptr && entry->index == index) hash_search(noted, &hash, HASH_REMOVE, nullptr);
}

void ForgetFolding() { noted = nullptr; }

}  // namespace herald
