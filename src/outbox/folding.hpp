// Which announcements the current transaction has collected: equal ones fold, as with
// NOTIFY.

#pragma once

#include "pg/pg.hpp"

namespace herald {

uint64 HashOfText(const char *text, uint32 bytes);

// Notes the text (channel, 0, payload, 0) as number `index` of the transaction's list. False where an
// equal one is noted already; `text_at` gives the text of a number.
bool NoteForFolding(const char *text, uint32 bytes, uint32 index, const char *(*text_at)(uint32));
// The text was rolled back.
void ForgetForFolding(const char *text, uint32 bytes, uint32 index);
// The transaction is over; its memory goes with it.
void ForgetFolding();

}  // namespace herald
