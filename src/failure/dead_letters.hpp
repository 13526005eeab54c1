// What people do with dead letters: run them again, or throw them away. All of them are for the owner
// of the subscription (42501), and safe against each other: a dead letter goes one way only.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// Makes the dead letter a task again: no attempts counted, due at once. False: there is no such dead
// letter (any more). 55006 where the same task waits already.
bool ReplayDeadLetter(int64 id);

// The same for all dead letters of a subscription; returns how many. 42704: no such subscription.
int64 ReplayDeadLetters(const char *subscription);

// Deletes the dead letters of a subscription that died before that time (NULL: all of them).
int64 DiscardDeadLetters(const char *subscription, const TimestampTz *before);

}  // namespace herald
