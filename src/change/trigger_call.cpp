// See trigger_call.hpp.

#include "change/trigger_call.hpp"

namespace herald {

namespace {

bool HasTransitionTables(const TriggerData *trigger, RowChange change) {
    const bool has_old = (change & (kUpdated | kDeleted)) == 0 || trigger->tg_oldtable != nullptr;
    const bool has_new = (change & (kUpdated | kInserted)) == 0 || trigger->tg_newtable != nullptr;
    return has_old && has_new;
}

// What is wrong with a trigger for a function of this kind; NULL: nothing.
const char *ProblemOf(const TriggerData *trigger, const TriggerKind &kind) {
    const RowChange change = ChangeOf(trigger);
    if ((kind.events & change) == 0) return "Its function is for another event.";
    if (!TRIGGER_FIRED_AFTER(trigger->tg_event)) return "It is not an AFTER trigger.";
    if (static_cast<bool>(TRIGGER_FIRED_FOR_ROW(trigger->tg_event)) != kind.by_row)
        return kind.by_row ? "It is not FOR EACH ROW." : "It is not FOR EACH STATEMENT.";
    if (!kind.by_row && !HasTransitionTables(trigger, change)) return "It has no transition tables.";
    if (trigger->tg_trigger->tgnargs != kind.arguments) return "It has other arguments.";
    return nullptr;
}

}  // namespace

RowChange ChangeOf(const TriggerData *trigger) {
    if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event)) return kInserted;
    if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event)) return kUpdated;
    if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event)) return kDeleted;
    return kTruncated;
}

TriggerData *ReadTriggerCall(FunctionCallInfo fcinfo, const TriggerKind &kind) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("the function must be called as a trigger of %s", kind.maker)));
    TriggerData *trigger = reinterpret_cast<TriggerData *>(fcinfo->context);
    const char *problem = ProblemOf(trigger, kind);
    if (problem != nullptr)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("trigger \"%s\" is not one that %s makes", trigger->tg_trigger->tgname, kind.maker),
                        errdetail("%s", problem), errhint("Drop it, and call %s() for the table.", kind.maker)));
    return trigger;
}

}  // namespace herald
