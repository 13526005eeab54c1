// See listener.hpp.
//
// The output methods stay ours for good, and whereToSendOutput is "remote" only while notifications are
// processed: without that detour their payload would go to elog(INFO) and be lost. What the methods
// see is one protocol message per notification: sender pid, channel, payload.

#include "announce/listener.hpp"

#include "pg/process.hpp"

extern "C" {
#include "commands/async.h"
#include "libpq/libpq.h"
#include "port/pg_bswap.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
}

namespace herald {

namespace {

MemoryContext heard_context = nullptr;
Heard *first = nullptr;
Heard *last = nullptr;

constexpr int kMaxChannels = 4096;
char **listened = nullptr;  // names, in TopMemoryContext
int listened_count = 0;

// An ERROR in here would be fatal to the process, so nothing here raises one: without memory the
// notification is lost, as for any client that can't be served.
void Take(const char *message, size_t length) {
    if (length < sizeof(int32) + 2) return;
    Heard *heard = static_cast<Heard *>(MemoryContextAllocExtended(
        heard_context, sizeof(Heard) + length, MCXT_ALLOC_NO_OOM));
    if (heard == nullptr) return;
    char *copy = reinterpret_cast<char *>(heard + 1);
    std::memcpy(copy, message, length);
    int32 pid;
    std::memcpy(&pid, copy, sizeof(pid));
    heard->next = nullptr;
    heard->sender_pid = static_cast<int32>(pg_ntoh32(static_cast<uint32>(pid)));
    heard->channel = copy + sizeof(pid);
    heard->payload = heard->channel + std::strlen(heard->channel) + 1;
    if (last == nullptr)
        first = heard;
    else
        last->next = heard;
    last = heard;
}

void CommReset() {}
int CommFlush() { return 0; }
int CommFlushIfWritable() { return 0; }
bool CommIsSendPending() { return false; }

int CommPutMessage(char type, const char *message, size_t length) {
    if (type == 'A') Take(message, length);
    return 0;
}

void CommPutMessageNoBlock(char type, const char *message, size_t length) {
    (void)CommPutMessage(type, message, length);
}

const PQcommMethods comm_methods = {
    CommReset, CommFlush, CommFlushIfWritable, CommIsSendPending, CommPutMessage,
    CommPutMessageNoBlock,
};

bool Contains(char **names, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (std::strcmp(names[i], name) == 0) return true;
    return false;
}

}  // namespace

void InitListener() {
    heard_context =
        AllocSetContextCreate(TopMemoryContext, "pg_herald heard", ALLOCSET_DEFAULT_SIZES);
    listened = static_cast<char **>(
        MemoryContextAllocZero(TopMemoryContext, sizeof(char *) * kMaxChannels));
    PqCommMethods = &comm_methods;
}

void ListenTo(char **channels, int count) {
    bool changed = count != listened_count;
    for (int i = 0; i < count; i++) changed = changed || !Contains(listened, listened_count, channels[i]);
    if (!changed) return;
    if (count > kMaxChannels) {
        ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                          errmsg("only the first %d channels with accept_notify are listened to",
                                 kMaxChannels)));
        count = kMaxChannels;
    }

    pg::BeginTransaction();
    for (int i = 0; i < listened_count; i++)
        if (!Contains(channels, count, listened[i])) Async_Unlisten(listened[i]);
    for (int i = 0; i < count; i++)
        if (!Contains(listened, listened_count, channels[i])) Async_Listen(channels[i]);
    pg::CommitTransaction();

    for (int i = 0; i < listened_count; i++) pfree(listened[i]);
    listened_count = 0;
    for (int i = 0; i < count; i++)
        listened[listened_count++] = MemoryContextStrdup(TopMemoryContext, channels[i]);
}

Heard *Receive() {
    if (notifyInterruptPending) {
        whereToSendOutput = DestRemote;
        ProcessNotifyInterrupt(false);
        whereToSendOutput = DestNone;
    }
    return first;
}

void DropHeard(int count) {
    for (; count > 0 && first != nullptr; count--) {
        Heard *gone = first;
        first = gone->next;
        pfree(gone);
    }
    if (first == nullptr) last = nullptr;
}

bool MustReceive() { return notifyInterruptPending; }

void ForceReceive() {
    if (listened_count > 0) notifyInterruptPending = true;
}

}  // namespace herald
