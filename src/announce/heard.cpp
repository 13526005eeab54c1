// See heard.hpp.
//
// A JSON object is stored as it is, any other text as {"task_id": "<text>"}, an empty one not at all. What
// we announced ourselves is skipped: by the sender's pid, or where a publisher had to announce directly, by
// the form of a pointer, which is never a task.

#include "announce/heard.hpp"

#include "announce/own_listen.hpp"
#include "channel/channel.hpp"
#include "pg/process.hpp"
#include "pg/subtransaction.hpp"
#include "publish/publish.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
}

namespace herald {

namespace {

// Subtransactions of one transaction, each with an xid: beyond 64 all snapshots of the server suffer.
constexpr int kBatch = 50;
// Transactions until others of this process's duties get their turn.
constexpr int kTurns = 64;

Datum Wrap(const char *text) {
    StringInfoData json;
    initStringInfo(&json);
    appendStringInfoString(&json, "{\"task_id\": ");
    escape_json(&json, text);
    appendStringInfoChar(&json, '}');
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

bool LooksLikeObject(const char *text) {
    while (*text == ' ' || *text == '\t' || *text == '\n' || *text == '\r') text++;
    return *text == '{';
}

bool IsPointer(Jsonb *payload) {
    if (!JB_ROOT_IS_OBJECT(payload) || JB_ROOT_COUNT(payload) != 1) return false;
    JsonbValue value;
    return getKeyJsonValueFromContainer(&payload->root, "herald", 6, &value) != nullptr && value.type == jbvBinary;
}

void StoreOne(const Heard &heard) {
    ErrorData *error = nullptr;
    Datum payload = static_cast<Datum>(0);
    if (heard.sender_pid == MyProcPid || heard.payload[0] == '\0') return;

    bool parsed =
        LooksLikeObject(heard.payload) &&
        pg::InSubtransaction([&] { payload = DirectFunctionCall1(jsonb_in, CStringGetDatum(heard.payload)); }, &error);
    if (parsed && IsPointer(DatumGetJsonbP(payload))) return;

    bool stored = pg::InSubtransaction(
        [&] {
            const Channel &channel = LookUpChannel(heard.channel);
            if (!channel.declared || !channel.accept_notify) return;
            if (!parsed) payload = Wrap(heard.payload);
            (void)StoreNotified(channel, payload);
        },
        &error);
    if (stored) return;
    // A fault of this notification (too large for the channel, say) must not keep the others back; a
    // fault of the server must not lose it.
    int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
    if (category == ERRCODE_INSUFFICIENT_RESOURCES || category == ERRCODE_OPERATOR_INTERVENTION ||
        category == ERRCODE_SYSTEM_ERROR)
        ReThrowError(error);
    ereport(WARNING, (errcode(error->sqlerrcode),
                      errmsg("could not store a notification on channel \"%s\": %s", heard.channel, error->message)));
}

}  // namespace

int StoreHeard(int level) {
    MemoryContext caller = CurrentMemoryContext;
    volatile int failed = 0;

    int turns = 0;
    for (Heard *heard = Receive(); heard != nullptr && failed == 0; heard = Receive()) {
        if (turns++ == kTurns) {
            SetLatch(MyLatch);
            break;
        }
        volatile int count = 0;
        PG_TRY();
        {
            pg::BeginTransaction();
            (void)set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
                                    false);
            for (; heard != nullptr && count < kBatch; heard = heard->next) {
                StoreOne(*heard);
                count = count + 1;
            }
            pg::CommitTransaction();
        }
        PG_CATCH();
        {
            failed = geterrcode();
            pg::AbortAndLog(caller, "could not store notifications",
                            "They are kept and tried again, less and less often.", level);
        }
        PG_END_TRY();
        MemoryContextSwitchTo(caller);
        if (failed == 0) DropHeard(count);
        CHECK_FOR_INTERRUPTS();
    }
    return failed;
}

}  // namespace herald
