// See dead_letters.hpp. DELETE ... RETURNING feeds the insert, so that of two concurrent replays the
// second finds nothing.

#include "pg/pg.hpp"

#include "failure/dead_letters.hpp"
#include "outbox/outbox.hpp"
#include "parked/parked_row.hpp"
#include "pg/as_owner.hpp"
#include "pg/spi.hpp"
#include "stats/dead_counts.hpp"
#include "subscription/subscription.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "catalog/pg_type.h"
}

namespace herald {

namespace {

// Runs a statement that moves dead letters and returns (moved, parked); the counts differ where a
// task of the same message is parked already.
int64 MoveToParked(const char *sql, int64 id, int32 subscription) {
    int64 moved = 0;
    int64 parked = 0;
    pg::AsOwner([&] {
        pg::SpiRun(sql, std::array{pg::Int8(id), pg::Time(GetCurrentTimestamp())});
        moved = pg::SpiInt8(0, 1);
        parked = pg::SpiInt8(0, 2);
    });

    // Or a unique index that is not ours keeps them out.
    if (moved != parked) RequireTaskTables();
    if (moved != parked)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("a task of the same message is waiting already"),
                        errhint("Look at herald.tasks, and discard the dead letter.")));
    CountDeadAtCommit(subscription, -moved);
    if (moved > 0) RaiseFlagAtCommit(kFlagParked);
    return moved;
}

#define MOVE_TO_PARKED(condition)                                                   \
    "WITH moved AS (DELETE FROM herald_internal.dead_letter_store WHERE " condition \
    " RETURNING *), "                                                               \
    "parked AS (INSERT INTO herald_internal.parked_store (" HERALD_PARKED_COLUMNS   \
    ", next_attempt_at) "                                                           \
    "SELECT " HERALD_MESSAGE_COLUMNS                                                \
    ", 0, $2 FROM moved ON CONFLICT DO NOTHING RETURNING 1) "                       \
    "SELECT (SELECT pg_catalog.count(*) FROM moved), (SELECT pg_catalog.count(*) FROM parked)"

// The name of the subscription a dead letter belongs to; NULL: there is no such dead letter, or its
// subscription is gone.
char *SubscriptionOfDeadLetter(int64 id) {
    MemoryContext context = CurrentMemoryContext;
    char *name = nullptr;
    return pg::AsOwner([&] {
        if (pg::SpiRun("SELECT s.subscription FROM herald_internal.dead_letter_store AS d "
                       "JOIN herald_internal.subscription_store AS s ON s.id = d.subscription_id "
                       "WHERE d.id = $1",
                       std::array{pg::Int8(id)}) > 0)
            name = MemoryContextStrdup(context, pg::SpiText(0, 1));
        return name;
    });
}

}  // namespace

bool ReplayDeadLetter(int64 id) {
    const char *name = SubscriptionOfDeadLetter(id);
    if (name == nullptr) return false;
    const Subscription *subscription = LoadSubscriptionByName(name, CurrentMemoryContext);
    // A dead letter of another role is as if it were not there: an error would tell its name to whoever counts ids up.
    if (subscription == nullptr || !OwnsSubscription(*subscription)) return false;
    return MoveToParked(MOVE_TO_PARKED("id = $1"), id, subscription->id) > 0;
}

int64 ReplayDeadLetters(const char *subscription) {
    const int32 id = FindOwnedSubscription(subscription)->id;
    return MoveToParked(MOVE_TO_PARKED("subscription_id = $1"), id, id);
}

int64 DiscardDeadLetters(const char *subscription, const TimestampTz *before) {
    const int32 id = FindOwnedSubscription(subscription)->id;
    // Not pg::Time(): it would take -infinity, which means none of them, for NULL, which means all.
    const pg::Param until = {TIMESTAMPTZOID, TimestampTzGetDatum(before == nullptr ? 0 : *before), before == nullptr};
    const uint64 deleted = pg::AsOwner([&] {
        return pg::SpiRun(
            "DELETE FROM herald_internal.dead_letter_store "
            "WHERE subscription_id = $1 AND ($2 IS NULL OR died_at < $2)",
            std::array{pg::Int4(id), until});
    });
    CountDeadAtCommit(id, -static_cast<int64>(deleted));
    return static_cast<int64>(deleted);
}

}  // namespace herald
