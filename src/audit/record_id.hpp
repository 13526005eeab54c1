// A row's key as somebody asks for its history. "No history" is an answer that is believed: so what names no key
// that the table has had is refused, and values are looked for in all the forms that they may have in the trail.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace herald {

struct GivenKey {
    const char *names[INDEX_MAX_KEYS];
    AttrNumber numbers[INDEX_MAX_KEYS];
    int count;
};

// The key's columns that record_id names, in `context`: those of now, or of a time before. 22023 where it names no
// key, 22004 for a null in it, 55000 where there is no key. Between SpiBegin and SpiEnd.
GivenKey RequireKey(int32 target_id, const char *table, const Jsonb *record_id, MemoryContext context);

// The same key with every value as a text (`as_text`), or with texts that are whole numbers as numbers: as it is in
// the trail of a time when the columns had other types. Between SpiBegin and SpiEnd.
Jsonb *InOtherTypes(const Jsonb *record_id, bool as_text);

// The same key with its values read as the columns' types read them, as the trail has them now: '1' for 1, a char(4)
// with its blanks, a uuid in small letters. As the caller, whose input functions they may be, and whose errors theirs are.
// NULL where a column is gone.
Jsonb *InColumnTypes(Oid relation, const GivenKey &key, const Jsonb *record_id);

}  // namespace herald
