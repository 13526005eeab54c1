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
constexpr uint32 kMaxTasks = 4096;
constexpr uint32 kKeptCapacity = 64;

Publications collected;
uint32 task_capacity = 0;
uint32 announcement_capacity = 0;

const char *TextAt(uint32 index) { return collected.announcements[index].text; }

// Makes room for one more.
template <class Item>
void Reserve(Item **items, uint32 count, uint32 *capacity) {
    if (count < *capacity) return;
    const uint32 wanted = *capacity == 0 ? kKeptCapacity : *capacity * 2;
    const Size size = sizeof(Item) * wanted;
    *items = static_cast<Item *>(*items == nullptr ? MemoryContextAlloc(TopMemoryContext, size)
                                                   : repalloc_huge(*items, size));
    *capacity = wanted;
}

template <class Item>
void Shrink(Item **items, uint32 *capacity) {
    if (*capacity <= kKeptCapacity) return;
    pfree(*items);
    *items = nullptr;
    *capacity = 0;
}

// Channel and payload, each with its zero byte, in memory of the transaction.
char *CopyText(const char *channel, const char *payload, uint32 *bytes) {
    const Size channel_bytes = std::strlen(channel) + 1;
    const Size payload_bytes = std::strlen(payload) + 1;
    char *text = static_cast<char *>(
        MemoryContextAlloc(TopTransactionContext, channel_bytes + payload_bytes));
    std::memcpy(text, channel, channel_bytes);
    std::memcpy(text + channel_bytes, payload, payload_bytes);
    *bytes = static_cast<uint32>(channel_bytes + payload_bytes);
    return text;
}

}  // namespace

void CollectTask(const TaskEntry &entry) {
    if (collected.task_count >= kMaxTasks) {
        collected.too_many_tasks = true;
        return;
    }
    Reserve(&collected.tasks, collected.task_count, &task_capacity);
    collected.tasks[collected.task_count++] = {entry, GetCurrentSubTransactionId()};
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
    Reserve(&collected.announcements, collected.announcement_count, &announcement_capacity);
    if (!NoteForFolding(text, entry.text_bytes, collected.announcement_count, TextAt)) {
        pfree(text);
        return;
    }
    collected.announcements[collected.announcement_count++] = {entry, text,
                                                               GetCurrentSubTransactionId()};
}

const Publications &CollectedPublications() { return collected; }

void ForgetPublications() {
    collected.task_count = collected.announcement_count = 0;
    collected.too_many_tasks = false;
    ForgetFolding();
    Shrink(&collected.tasks, &task_capacity);
    Shrink(&collected.announcements, &announcement_capacity);
}

// Subtransactions nest, and their numbers grow: what belongs to one, or came after it, lies at the end.

void KeepPublications(SubTransactionId own, SubTransactionId parent) {
    for (uint32 i = collected.task_count; i > 0 && collected.tasks[i - 1].subtransaction == own; i--)
        collected.tasks[i - 1].subtransaction = parent;
    for (uint32 i = collected.announcement_count;
         i > 0 && collected.announcements[i - 1].subtransaction == own; i--)
        collected.announcements[i - 1].subtransaction = parent;
}

void DropPublications(SubTransactionId own) {
    while (collected.task_count > 0 &&
           collected.tasks[collected.task_count - 1].subtransaction >= own)
        collected.task_count--;
    while (collected.announcement_count > 0 &&
           collected.announcements[collected.announcement_count - 1].subtransaction >= own) {
        const CollectedAnnouncement &gone =
            collected.announcements[--collected.announcement_count];
        ForgetForFolding(gone.text, gone.entry.text_bytes, collected.announcement_count);
    }
}

}  // namespace herald
