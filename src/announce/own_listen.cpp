// See own_listen.hpp.
//
// The output methods stay ours for good, and whereToSendOutput is "remote" only while notifications are
// processed: without that detour their payload would go to elog(INFO) and be lost. What the methods
// see is one protocol message per notification: sender pid, channel, payload.
//
// Whoever NOTIFYs may be faster than the log is written. So no more is received than kMostHeard; what is left in
// NOTIFY's queue is bounded there, and for those who fill it. The server reads all that its snapshot shows as
// committed in one go, with no way to stop it but this: the transaction is a REPEATABLE READ one, whose
// snapshot is the one it reads by, and can be had. Made older than everything in the queue, it ends the
// reading at the next page, as a transaction still in progress does, and the rest is read the next time.

#include "announce/own_listen.hpp"

#include "pg/process.hpp"

extern "C" {
#include "access/transam.h"
#include "access/xact.h"
#include "commands/async.h"
#include "libpq/libpq.h"
#include "port/pg_bswap.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
}

namespace herald {

namespace {

constexpr Size kMostHeard = 16 * 1024 * 1024;  // bytes, and up to a page of NOTIFY's queue more

MemoryContext heard_context = nullptr;
Heard *first = nullptr;
Heard *last = nullptr;
Size heard_bytes = 0;

char **listened = nullptr;  // sorted names, in TopMemoryContext, as is the array
int listened_count = 0;

// In the transaction that reads: nothing that was NOTIFYed by anybody counts as committed from here on.
void StopReading() {
    // Older than all transactions that can be in the queue, as those are told apart.
    TransactionId old = XidFromFullTransactionId(ReadNextFullTransactionId()) - (1u << 30);
    if (!TransactionIdIsNormal(old)) old = FirstNormalTransactionId;
    Snapshot snapshot = GetTransactionSnapshot();
    snapshot->xmin = snapshot->xmax = old;
}

// An ERROR in here would be fatal to the process, so nothing here raises one: without memory the
// notification is lost, as for any client that can't be served.
void Take(const char *message, size_t length) {
    if (length < sizeof(int32) + 2) return;
    const Size bytes = sizeof(Heard) + length;
    Heard *heard = static_cast<Heard *>(MemoryContextAllocExtended(heard_context, bytes, MCXT_ALLOC_NO_OOM));
    if (heard == nullptr) return;
    heard->bytes = bytes;
    heard_bytes += bytes;
    if (heard_bytes >= kMostHeard) StopReading();
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
    CommReset, CommFlush, CommFlushIfWritable, CommIsSendPending, CommPutMessage, CommPutMessageNoBlock,
};

int CompareNames(const void *a, const void *b) {
    return std::strcmp(*static_cast<char *const *>(a), *static_cast<char *const *>(b));
}

bool Contains(char **names, int count, char *name) {
    return count > 0 && bsearch(&name, names, static_cast<Size>(count), sizeof(char *), CompareNames) != nullptr;
}

}  // namespace

void InitOwnListen() {
    heard_context = AllocSetContextCreate(TopMemoryContext, "pg_herald heard", ALLOCSET_DEFAULT_SIZES);
    PqCommMethods = &comm_methods;
}

void ListenTo(char **channels, int count) {
    qsort(channels, static_cast<Size>(count), sizeof(char *), CompareNames);
    bool changed = count != listened_count;
    for (int i = 0; i < count && !changed; i++) changed = std::strcmp(listened[i], channels[i]) != 0;
    if (!changed) return;

    pg::BeginTransaction();
    for (int i = 0; i < listened_count; i++)
        if (!Contains(channels, count, listened[i])) Async_Unlisten(listened[i]);
    for (int i = 0; i < count; i++)
        if (!Contains(listened, listened_count, channels[i])) Async_Listen(channels[i]);
    pg::CommitTransaction();

    for (int i = 0; i < listened_count; i++) pfree(listened[i]);
    if (listened != nullptr) pfree(listened);
    listened_count = 0;
    listened =
        static_cast<char **>(MemoryContextAlloc(TopMemoryContext, sizeof(char *) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; i++) listened[listened_count++] = MemoryContextStrdup(TopMemoryContext, channels[i]);
}

int ListenedChannels() { return listened_count; }

Heard *Receive() {
    if (MustReceive()) {
        const int usual = DefaultXactIsoLevel;
        whereToSendOutput = DestRemote;
        DefaultXactIsoLevel = XACT_REPEATABLE_READ;
        ProcessNotifyInterrupt(false);
        DefaultXactIsoLevel = usual;
        whereToSendOutput = DestNone;
        // Nobody signals again what was left.
        if (heard_bytes >= kMostHeard) notifyInterruptPending = true;
    }
    return first;
}

void DropHeard(int count) {
    for (; count > 0 && first != nullptr; count--) {
        Heard *gone = first;
        first = gone->next;
        heard_bytes -= gone->bytes;
        pfree(gone);
    }
    if (first == nullptr) last = nullptr;
}

bool MustReceive() { return notifyInterruptPending && heard_bytes < kMostHeard; }

void ForceReceive() {
    if (listened_count > 0) notifyInterruptPending = true;
}

}  // namespace herald
