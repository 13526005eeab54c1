// Setting up atomics in shared memory: all at once, so that none is forgotten.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "port/atomics.h"
}

namespace herald {

inline void InitWord(pg_atomic_uint32 &word) { pg_atomic_init_u32(&word, 0); }
inline void InitWord(pg_atomic_uint64 &word) { pg_atomic_init_u64(&word, 0); }
inline void ClearWord(pg_atomic_uint32 &word) { pg_atomic_write_u32(&word, 0); }
inline void ClearWord(pg_atomic_uint64 &word) { pg_atomic_write_u64(&word, 0); }

template <class Word, std::size_t N>
void InitWord(Word (&words)[N]) {
    for (Word &word : words) InitWord(word);
}
template <class Word, std::size_t N>
void ClearWord(Word (&words)[N]) {
    for (Word &word : words) ClearWord(word);
}

// Once, when the memory is new.
template <class... Words>
void InitWords(Words &...words) {
    (InitWord(words), ...);
}

template <class... Words>
void ClearWords(Words &...words) {
    (ClearWord(words), ...);
}

}  // namespace herald
