// See listen_commands.hpp.
//
// The session's channels are a local hash table. Before the commit the noted commands are worked into it,
// as what is wanted, and places in shared memory are taken: all that may fail. The commit or abort then
// only settles which of the two, listening or wanted, holds.

#include "listen/listen_commands.hpp"

#include "listen/listeners.hpp"
#include "pg/pg.hpp"
#include "pg/transaction_list.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "utils/hsearch.h"
}

namespace herald {

namespace {

enum class ListenAction { kNone, kListen, kUnlisten, kUnlistenAll };

struct Note {
    ListenAction action;
    char channel[NAMEDATALEN];
    SubTransactionId subtransaction;
};

struct OwnChannel {
    char name[NAMEDATALEN];
    OwnChannel *next;  // in a list from own_channels on, as walking the hash table may fail
    OwnChannel *previous;
    bool listening;  // as of the last commit
    bool wanted;     // once the current transaction has committed
    int place;       // see TakeListener; -1 where there was no room
};

ProcessUtility_hook_type previous_hook = nullptr;
HTAB *channels_by_name = nullptr;  // made at the first LISTEN
OwnChannel *own_channels = nullptr;

// What the current transaction asked for so far.
pg::TransactionList<Note> notes;
bool staged = false;  // the notes were worked into own_channels

OwnChannel *Find(const char *name, HASHACTION action, bool *found) {
    return static_cast<OwnChannel *>(hash_search(channels_by_name, name, action, found));
}

// None of these four can fail.
void Remove(OwnChannel *channel) {
    FreeListener(channel->place);
    if (channel->previous == nullptr)
        own_channels = channel->next;
    else
        channel->previous->next = channel->next;
    if (channel->next != nullptr) channel->next->previous = channel->previous;
    (void)Find(channel->name, HASH_REMOVE, nullptr);
}

void Settle(OwnChannel *channel, bool committed) {
    if (!committed)
        channel->wanted = channel->listening;
    else if (channel->wanted && !channel->listening)
        ShowListener(channel->place);
    channel->listening = channel->wanted;
    if (!channel->listening) Remove(channel);
}

void SettleAll(bool committed) {
    for (OwnChannel *channel = own_channels, *next; channel != nullptr; channel = next) {
        next = channel->next;
        Settle(channel, committed);
    }
}

void OnExit(int, Datum) {
    while (own_channels != nullptr) Remove(own_channels);
}

void MakeTable() {
    HASHCTL control;
    std::memset(&control, 0, sizeof(control));
    control.keysize = NAMEDATALEN;
    control.entrysize = sizeof(OwnChannel);
    channels_by_name = hash_create("pg_herald listened channels", 16, &control, HASH_ELEM | HASH_STRINGS);
    on_shmem_exit(OnExit, static_cast<Datum>(0));
}

void Want(const char *name) {
    bool found;
    if (channels_by_name == nullptr) MakeTable();
    OwnChannel *channel = Find(name, HASH_ENTER, &found);
    if (!found) {
        channel->listening = false;
        channel->place = TakeListener(name);
        channel->previous = nullptr;
        channel->next = own_channels;
        if (own_channels != nullptr) own_channels->previous = channel;
        own_channels = channel;
    }
    channel->wanted = true;
}

void Stage() {
    staged = notes.count > 0;
    for (const Note &note : notes) {
        OwnChannel *channel;
        switch (note.action) {
            case ListenAction::kListen:
                Want(note.channel);
                break;
            case ListenAction::kUnlisten:
                channel = channels_by_name == nullptr ? nullptr : Find(note.channel, HASH_FIND, nullptr);
                if (channel != nullptr) channel->wanted = false;
                break;
            case ListenAction::kUnlistenAll:
                for (channel = own_channels; channel != nullptr; channel = channel->next) channel->wanted = false;
                break;
            case ListenAction::kNone:
                break;
        }
    }
}

void Forget() {
    notes.Forget();
    staged = false;
}

void SettleCommitted() {
    if (staged) SettleAll(true);
    Forget();
}

void SettleAborted() {
    if (staged) SettleAll(false);
    Forget();
}

void KeepSub(SubTransactionId own, SubTransactionId parent) { notes.KeepSub(own, parent); }

void DropSub(SubTransactionId own) { notes.DropSub(own); }

// The parser has cut the name as core keeps it; no name: all channels.
void Read(Node *statement, Note *note) {
    const char *channel = nullptr;
    note->action = ListenAction::kNone;
    if (nodeTag(statement) == T_ListenStmt) {
        note->action = ListenAction::kListen;
        channel = castNode(ListenStmt, statement)->conditionname;
    } else if (nodeTag(statement) == T_UnlistenStmt) {
        channel = castNode(UnlistenStmt, statement)->conditionname;
        note->action = channel == nullptr ? ListenAction::kUnlistenAll : ListenAction::kUnlisten;
    } else if (nodeTag(statement) == T_DiscardStmt && castNode(DiscardStmt, statement)->target == DISCARD_ALL) {
        note->action = ListenAction::kUnlistenAll;
    }
    if (channel != nullptr) pg::CopyString(note->channel, channel, sizeof(note->channel));
}

void OnCommand(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
               ParamListInfo params, QueryEnvironment *environment, DestReceiver *receiver,
               QueryCompletion *completion) {
    auto next = previous_hook != nullptr ? previous_hook : standard_ProcessUtility;
    Note note = {};

    // Before the command, which may free the statement; what fails is not taken.
    Read(statement->utilityStmt, &note);
    next(statement, query, read_only_tree, context, params, environment, receiver, completion);
    if (note.action == ListenAction::kNone) return;
    // A pool's DISCARD ALL between clients that never listened costs nothing.
    if (note.action != ListenAction::kListen && notes.count == 0 && own_channels == nullptr) return;
    note.subtransaction = GetCurrentSubTransactionId();
    (void)notes.Add(note);
}

}  // namespace

// Core refuses to prepare what changes the set of channels.
const pg::TransactionPart kListenPart = {.before_commit = Stage,
                                         .before_prepare = pg::NoEnd,
                                         .committed = SettleCommitted,
                                         .prepared = Forget,
                                         .aborted = SettleAborted,
                                         .sub_committed = KeepSub,
                                         .sub_aborted = DropSub};

void InitListenCommands() {
    previous_hook = ProcessUtility_hook;
    ProcessUtility_hook = OnCommand;
}

}  // namespace herald
