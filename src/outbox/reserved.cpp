// See reserved.hpp.

#include "outbox/reserved.hpp"

#include "outbox/queue.hpp"

namespace herald {

bool ReserveAnnouncement(DatabaseShared *database, const char *channel, const char *payload, int32 counters,
                         OutboxChain *chain) {
    const uint32 channel_bytes = static_cast<uint32>(std::strlen(channel)) + 1;
    const uint32 payload_bytes = static_cast<uint32>(std::strlen(payload)) + 1;
    const uint32 bytes = channel_bytes + payload_bytes;
    char *text = static_cast<char *>(palloc(bytes));
    uint32 cells;

    std::memcpy(text, channel, channel_bytes);
    std::memcpy(text + channel_bytes, payload, payload_bytes);
    if (!TakeCells(database, GetSessionUserId(), CellsFor(bytes), &cells)) {
        pfree(text);
        return false;
    }
    Cell *cell = AddToChain(chain, &cells, GetSessionUserId());
    cell->announcement = AnnouncementEntry{};
    cell->announcement.counters = counters;
    cell->announcement.session = MyProcPid;
    cell->announcement.text_bytes = bytes;
    AddText(chain, &cells, text, bytes);
    pfree(text);
    return true;
}

void MakeReserved(DatabaseShared *database, OutboxChain *chain) {
    (void)LinkChain(database, Consumer::kAnnouncer, chain);
    WakeConsumer(database, Consumer::kAnnouncer);
    WantConsumer(database, Consumer::kAnnouncer);
    // If no announcer runs, the launcher starts one for what is left in the queue.
    if (!Announces(database)) WakeLauncher();
}

}  // namespace herald
