// See handler_call.hpp.

#include "worker/handler_call.hpp"

#include "pg/extension.hpp"
#include "pg/process.hpp"
#include "pg/spi.hpp"
#include "subscription/role_check.hpp"
#include "worker/batch_timer.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/typcache.h"
}

namespace herald {

namespace {

// Plans of the handlers this worker has called, by function and argument kind. A worker serves one
// role, which has few handlers; the oldest plan makes room for a new one.
struct HandlerPlan {
    Oid function;
    HandlerKind kind;
    SPIPlanPtr plan;
    char sql[3 * NAMEDATALEN * 2];  // the plan goes by name: another function may have it now
};
constexpr int kMaxPlans = 32;
HandlerPlan plans[kMaxPlans];
int next_plan = 0;

SPIPlanPtr PlanFor(Oid function, HandlerKind kind) {
    const char *sql =
        psprintf("SELECT %s($1)",
                 quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function)));
    for (const HandlerPlan &known : plans)
        if (known.plan != nullptr && known.function == function && known.kind == kind &&
            std::strcmp(known.sql, sql) == 0)
            return known.plan;

    Oid type = kind == HandlerKind::kTask ? pg::Tables().task_type : JSONBOID;
    SPIPlanPtr plan = SPI_prepare(sql, 1, &type);
    if (plan == nullptr) elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
    if (SPI_keepplan(plan) != 0) elog(ERROR, "SPI_keepplan failed");
    HandlerPlan *place = &plans[next_plan];
    next_plan = (next_plan + 1) % kMaxPlans;
    if (place->plan != nullptr) SPI_freeplan(place->plan);
    place->function = function;
    place->kind = kind;
    place->plan = plan;
    pg::CopyString(place->sql, sql, sizeof(place->sql));
    return plan;
}

Datum TextOrNull(text *value, bool *is_null) {
    *is_null = value == nullptr;
    return PointerGetDatum(value);
}

Datum TaskDatum(const Subscription &subscription, const StoredMessage &message, int32 attempt) {
    TupleDesc descriptor = lookup_rowtype_tupdesc(pg::Tables().task_type, -1);
    Datum values[11];
    bool nulls[11] = {};
    int i = 0;

    values[i++] = Int64GetDatum(message.id);
    values[i++] = CStringGetTextDatum(subscription.channel);
    values[i++] = JsonbPGetDatum(message.payload);
    values[i] = TextOrNull(message.key, &nulls[i]);
    i++;
    nulls[i] = message.headers == nullptr;
    values[i++] = PointerGetDatum(message.headers);
    values[i++] = CStringGetTextDatum(subscription.name);
    values[i++] = Int32GetDatum(attempt);
    values[i++] = TimestampTzGetDatum(message.published_at);
    values[i] = TextOrNull(message.published_by, &nulls[i]);
    i++;
    values[i] = static_cast<Datum>(0);
    nulls[i++] = true;  // receipt
    nulls[i] = message.schema_version == 0;
    values[i++] = Int32GetDatum(message.schema_version);
    Assert(i == descriptor->natts);
    HeapTuple tuple = heap_form_tuple(descriptor, values, nulls);
    ReleaseTupleDesc(descriptor);
    return HeapTupleGetDatum(tuple);
}

// What SPI would say. `argument` is the handler as it is stored: name and argument type.
void AddCallContext(void *argument) {
    const char *handler = static_cast<const char *>(argument);
    const char *type = std::strrchr(handler, '(');
    errcontext("SQL statement \"SELECT %.*s($1)\"", type == nullptr ? 0 : static_cast<int>(type - handler), handler);
}

// The call as such, without a statement around it, which would cost more than a small handler.
void CallFunction(const Subscription &subscription, FmgrInfo *function, Datum argument) {
    LOCAL_FCINFO(call, 1);
    PgStat_FunctionCallUsage usage;
    ErrorContextCallback context = {error_context_stack, AddCallContext, subscription.handler};

    error_context_stack = &context;
    InvokeFunctionExecuteHook(function->fn_oid);
    PushActiveSnapshot(GetTransactionSnapshot());
    InitFunctionCallInfoData(*call, function, 1, InvalidOid, nullptr, nullptr);
    call->args[0].value = argument;
    call->args[0].isnull = false;
    pgstat_init_function_usage(call, &usage);
    (void)FunctionCallInvoke(call);
    pgstat_end_function_usage(&usage, true);
    PopActiveSnapshot();
    CommandCounterIncrement();
    error_context_stack = context.previous;
}

void ExecuteHandler(const Subscription &subscription, Oid function, const StoredMessage &message, int32 attempt) {
    Datum argument = subscription.handler_kind == HandlerKind::kTask ? TaskDatum(subscription, message, attempt)
                                                                     : JsonbPGetDatum(message.payload);
    // Looked up at each call: what it remembers of the function must not be older.
    FmgrInfo call;
    fmgr_info(function, &call);
    if (!call.fn_retset) {
        CallFunction(subscription, &call, argument);
        return;
    }
    // Only a statement can run a set to its end.
    pg::SpiBegin();
    SPIPlanPtr plan = PlanFor(function, subscription.handler_kind);
    int code = SPI_execute_plan(plan, &argument, nullptr, false, 0);
    if (code < 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
                        errmsg("the handler could not be run: %s", SPI_result_code_string(code))));
    pg::SpiEnd();
}

// A cancel concerns the handler and nothing else the worker does.
void EndCancel() {
    LetRun();
    disable_timeout(STATEMENT_TIMEOUT, false);
    pg::AllowCancel(false);
    // A cancel that came too late must not hit the next task.
    QueryCancelPending = false;
}

}  // namespace

Oid CheckDefinition(const Subscription &subscription, DefinitionFault *fault) {
    Oid function = InvalidOid;
    fault->sqlstate = 0;
    int sqlstate;
    const char *problem = RoleProblem(subscription.role, subscription.run_as, &sqlstate);
    if (problem == nullptr) problem = OwnerProblem(subscription, &sqlstate);
    if (problem == nullptr) problem = HandlerProblem(subscription, &function, &sqlstate);
    if (problem == nullptr) return function;
    fault->sqlstate = sqlstate;
    fault->message = problem;
    return InvalidOid;
}

ErrorData *CallHandler(const Subscription &subscription, Oid function, const StoredMessage &message, int32 attempt,
                       bool shares) {
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData *volatile failure = nullptr;

    // How long the handler waits is its own business.
    pg::UnlimitLockWaits();
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        // What the handler SETs ends with its level; the subtransaction alone would hand it on.
        int guc_level = NewGUCNestLevel();
        QueryCancelPending = false;
        pg::AllowCancel(true);
        if (shares) CutAtBatchTime();
        if (subscription.timeout > 0)
            enable_timeout_after(STATEMENT_TIMEOUT, static_cast<int>(Min(subscription.timeout, INT_MAX)));
        ExecuteHandler(subscription, function, message, attempt);
        // Deferred constraints are checked now, not at COMMIT: under the task's timeout, and charged to it by
        // the same path as any other error. SET CONSTRAINTS would be in force for the tasks behind it, too.
        AfterTriggerFireDeferred();
        EndCancel();
        // It may have taken the cancel for something else.
        if (shares && WasCut())
            ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the time of the batch was over")));
        AtEOXact_GUC(false, guc_level);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        EndCancel();
        MemoryContextSwitchTo(context);
        failure = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    pg::LimitLockWaits();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return failure;
}

}  // namespace herald
