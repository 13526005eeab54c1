// Which session of the server LISTENs to which channel: a table of (session, channel) in shared memory.
//
// A session writes only places that it took itself. It takes them before its commit, where that may
// still fail, and shows or frees them by one atomic store, which a commit or exit callback may do. A
// role takes at most as many places as it leaves free: nobody fills the table for others. See
// listen_commands.hpp for when, and sql/listener_functions.cpp for who sees what.

#pragma once

#include "pg/pg.hpp"

namespace herald {

inline constexpr int kListenerPlaces = 8192;

// A place of this session for a channel, hidden until ShowListener; -1 where there is no room: then the
// pair is only counted, until FreeListener(-1).
int TakeListener(const char *channel);
// Neither can fail.
void ShowListener(int place);
void FreeListener(int place);

struct Listener {
    int32 pid;
    Oid database;
    Oid role;           // that the session was authenticated as
    TimestampTz since;  // the commit of its LISTEN
    char channel[NAMEDATALEN];
};

// A copy in the current memory context, of one database or of all (InvalidOid), sorted by channel.
Listener *ReadListeners(Oid database, int *count);
// How many of a sorted list, of one database, listen to the channel.
int CountListeners(const Listener *listeners, int count, const char *channel);

struct ListenerUsage {
    int used;
    int unrecorded;  // pairs that found no place
};
ListenerUsage ReadListenerUsage();

Size ListenerMemory();
void InitListeners();  // in the shmem_startup_hook, under AddinShmemInitLock

}  // namespace herald
