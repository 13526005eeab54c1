// See publications.hpp.

#include "outbox/publications.hpp"

#include "outbox/folding.hpp"

extern "C" {
#include "access/xact.h"
}

namespace herald {

namespace {

// A transaction that stores more messages than this asks for a scan of the log instead of filling the
// outbox.
constexpr int kMaxTasks = 4096;

Publications collected;

const char *TextAt(uint32 index) { return collected.announcements.items[index].text; }

// Channel and payload, each with its zero byte, in memory of the transaction.
char *CopyText(const char *channel, const char *payload, uint32 *bytes) {
    const Size channel_bytes = std::strlen(channel) + 1;
    const Size payload_bytes = std::strlen(payload) + 1;
    char *text = static_cast<char *>(MemoryContextAlloc(TopTransactionContext, channel_bytes + payload_bytes));
    std::memcpy(text, channel, channel_bytes);
    std::memcpy(text + channel_bytes, payload, payload_bytes);
    *bytes = static_cast<uint32>(channel_bytes + payload_bytes);
    return text;
}

uint32 NumberOf(const CollectedAnnouncement *announcement) {
    return static_cast<uint32>(announcement - collected.announcements.items);
}

}  // namespace

void CollectTask(const TaskEntry &entry) {
    if (collected.tasks.count >= kMaxTasks)
        collected.too_many_tasks = true;
    else
        (void)collected.tasks.Add({entry, GetCurrentSubTransactionId()});
}

void CollectAnnouncement(const char *channel, const char *payload, int32 counters, int64 message_id,
                         uint32 payload_bytes) {
    AnnouncementEntry entry = {};
    char *text = CopyText(channel, payload, &entry.text_bytes);
    entry.counters = counters;
    entry.message_id = message_id;
    entry.payload_bytes = payload_bytes;
    entry.session = MyProcPid;
    // Before it is noted: what is noted must be there.
    collected.announcements.Reserve();
    if (NoteForFolding(text, entry.text_bytes, static_cast<uint32>(collected.announcements.count), TextAt))
        (void)collected.announcements.Add({entry, text, GetCurrentSubTransactionId()});
    else
        pfree(text);
}

const Publications &CollectedPublications() { return collected; }

bool IsEmpty(const Publications &publications) {
    return publications.tasks.count == 0 && publications.announcements.count == 0 && !publications.too_many_tasks;
}

void ForgetPublications() {
    collected.tasks.Forget();
    collected.announcements.Forget();
    collected.too_many_tasks = false;
    ForgetFolding();
}

void KeepPublications(SubTransactionId own, SubTransactionId parent) {
    collected.tasks.KeepSub(own, parent);
    collected.announcements.KeepSub(own, parent);
}

void DropPublications(SubTransactionId own) {
    collected.tasks.DropSub(own);
    collected.announcements.DropSub(own, [](const CollectedAnnouncement &gone) {
        ForgetForFolding(gone.text, gone.entry.text_bytes, NumberOf(&gone));
    });
}

}  // namespace herald
