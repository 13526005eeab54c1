// Listening inside the announcer: LISTEN without a client. SQL LISTEN is refused in background
// processes; the function behind it is not, and what it hears is taken where it would be sent to a client.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// A notification that was heard. Lies in memory of the listener until DropHeard.
struct Heard {
    Heard *next;
    Size bytes;  // of memory
    int32 sender_pid;
    const char *channel;
    const char *payload;
};

// Once per process, before the first LISTEN.
void InitOwnListen();

// Makes the set of channels that are listened to the given one, in transactions of its own.
void ListenTo(char **channels, int count);
int ListenedChannels();

// Receives what has come in; outside a transaction. The list, oldest first. While some megabytes wait here to be
// dropped, the rest stays in NOTIFY's own queue.
Heard *Receive();
// Forgets the first `count` of what was heard.
void DropHeard(int count);

// True where something may have come in, and can be received: don't sleep.
bool MustReceive();
// After an error or a time-out: look, whatever the signals said.
void ForceReceive();

}  // namespace herald
