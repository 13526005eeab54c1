// See settings.hpp. Every setting has a unit, a range and a sentence for the administrator; README has
// them as a table.

#include "pg/pg.hpp"

#include "settings.hpp"

extern "C" {
#include "utils/guc.h"
#include "utils/varlena.h"
}

namespace herald::settings {

bool enabled = true;
char *databases = nullptr;
int max_workers = 4;
int worker_idle_timeout = 60;
int batch_time = 5;
bool superuser_handlers = false;
int outbox_size = 16 * 1024;
int max_channels = 1024;
int max_subscriptions = 2048;
int max_payload = 1024 * 1024;
int failure_retention = 30 * 24 * 60;
int segment_size = 256;
int rotation_period = 2 * 60 * 60;
int max_log_size = 0;
int pointer_retention = 60 * 60;
int pointer_space = 64 * 1024;
int sweep_interval = 30;
int change_feed_bulk_limit = 1000;
int undeclared_channels = static_cast<int>(UndeclaredChannels::kAllow);
char *audit_context = nullptr;
int audit_retention = 0;
bool audit_statement = false;

namespace {

const struct config_enum_entry undeclared_channels_options[] = {
    {"allow", static_cast<int>(UndeclaredChannels::kAllow), false},
    {"warn", static_cast<int>(UndeclaredChannels::kWarn), false},
    {"refuse", static_cast<int>(UndeclaredChannels::kRefuse), false},
    {nullptr, 0, false},
};

bool CheckList(char **value, void **, GucSource) {
    List *names = NIL;
    char *copy = pstrdup(*value);
    const bool right = SplitIdentifierString(copy, ',', &names);
    if (!right) GUC_check_errdetail("List syntax is invalid.");
    list_free(names);
    pfree(copy);
    return right;
}

const char *ProblemOfName(const char *name) {
    if (std::strcmp(name, "*") == 0) return "\"*\" is the name of no database.";
    if (std::strlen(name) >= NAMEDATALEN) return "A name is longer than that of a database can be.";
    return nullptr;
}

bool CheckDatabases(char **value, void **, GucSource) {
    List *names = NIL;
    ListCell *cell;
    const char *problem = nullptr;
    char *copy = pstrdup(*value);
    // Names count as they are written.
    if (!SplitGUCList(copy, ',', &names)) problem = "List syntax is invalid.";
    foreach (cell, names)
        if (problem == nullptr) problem = ProblemOfName(static_cast<const char *>(lfirst(cell)));
    if (problem != nullptr) {
        GUC_check_errdetail("%s", problem);
        GUC_check_errhint(
            "Separate names by commas, and put one that is not of letters, digits and underscores into double "
            "quotes, as in 'one, \"My DB\"'. An empty list means every database.");
    }
    list_free(names);
    pfree(copy);
    return problem == nullptr;
}

}  // namespace

void Define() {
    DefineCustomBoolVariable("herald.enabled", "Runs dispatchers, announcers and workers.",
                             "While off, messages are stored and plain notifications sent, but no handler runs.",
                             &enabled, true, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("herald.databases", "Databases in which handlers run, separated by commas.",
                               "Empty: every database that has the extension.", &databases, "", PGC_SIGHUP,
                               GUC_LIST_INPUT, CheckDatabases, nullptr, nullptr);
    DefineCustomIntVariable(
        "herald.max_workers", "Largest number of workers that run handlers, in the whole server.",
        "Each takes one of max_worker_processes; so do the launcher, and a dispatcher and an announcer "
        "per database.",
        &max_workers, 4, 1, 256, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.worker_idle_timeout", "How long a worker waits for a task before it ends.",
                            "So do a dispatcher and an announcer that have nothing to do.", &worker_idle_timeout, 60, 1,
                            24 * 3600, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "herald.batch_time", "How long tasks that share a transaction may take together.",
        "What has not run by then gets a transaction of its own; the first task is bound by its own "
        "timeout only.",
        &batch_time, 5, 1, 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("herald.superuser_handlers", "Allows subscriptions that run as a superuser.", nullptr,
                             &superuser_handlers, false, PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.outbox_size", "Shared memory between publishers and the background processes.",
                            "What does not fit is found by a scan of the log instead.", &outbox_size, 16 * 1024, 64,
                            MAX_KILOBYTES, PGC_POSTMASTER, GUC_UNIT_KB, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.max_channels", "Number of channels with statistics of their own.",
                            "Channels beyond it are counted together.", &max_channels, 1024, 16, 1024 * 1024,
                            PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.max_subscriptions", "Largest number of subscriptions, in the whole server.",
                            "A role gets at most half of them, and less if others have taken some.", &max_subscriptions,
                            2048, 16, 64 * 1024, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.max_payload", "Largest payload of a message.",
                            "A channel may have a lower limit of its own.", &max_payload, 1024 * 1024, 1024,
                            256 * 1024 * 1024, PGC_SUSET, GUC_UNIT_BYTE, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.rotation_period", "How long messages stay in the log at least.",
                            "Tasks that are not done by then are kept elsewhere until they are.", &rotation_period,
                            2 * 60 * 60, 1, 365 * 24 * 3600, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "herald.segment_size",
        "Size from which a segment of the log is left before herald.rotation_period, if all is done in the "
        "one before.",
        "It bounds what is read when the server starts. 0: no limit.", &segment_size, 256, 0, INT_MAX / 2, PGC_SIGHUP,
        GUC_UNIT_MB, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.max_log_size",
                            "Size of the log at which publishing to durable channels is refused.",
                            "From half of it on messages may leave the log before herald.rotation_period. 0: no limit.",
                            &max_log_size, 0, 0, INT_MAX / 2, PGC_SIGHUP, GUC_UNIT_MB, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.failure_retention", "How long rows of the failure log are kept.", "0: for ever.",
                            &failure_retention, 30 * 24 * 60, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MIN, nullptr, nullptr,
                            nullptr);
    DefineCustomIntVariable(
        "herald.pointer_retention",
        "How long payloads are kept that were too large to be announced on a channel that stores nothing.",
        "LISTENers get a pointer to them, for herald.fetch().", &pointer_retention, 60 * 60, 1, INT_MAX / 2, PGC_SIGHUP,
        GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.pointer_space", "How much of such payloads each role may have in a database.",
                            "What is more is announced, but not kept.", &pointer_space, 64 * 1024, 0, MAX_KILOBYTES,
                            PGC_SIGHUP, GUC_UNIT_KB, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.change_feed_bulk_limit",
                            "How many changed rows of a change feed are published one by one in a transaction.",
                            "If there are more, a single message says how many.", &change_feed_bulk_limit, 1000, 0,
                            1000 * 1000, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("herald.sweep_interval",
                            "How often the background processes look around without having been woken.",
                            "An insurance only: publishers wake them.", &sweep_interval, 30, 1, 3600, PGC_SIGHUP,
                            GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable("herald.undeclared_channels", "What publishing to a channel that was not declared does.",
                             nullptr, &undeclared_channels, static_cast<int>(UndeclaredChannels::kAllow),
                             undeclared_channels_options, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("herald.audit_context",
                               "Settings whose values are recorded with audited changes, separated by commas.",
                               "Such as app.user_id, which the application sets: it is known behind a connection pool.",
                               &audit_context, "", PGC_SUSET, GUC_LIST_INPUT, CheckList, nullptr, nullptr);
    DefineCustomIntVariable("herald.audit_retention", "How long audited changes are kept.",
                            "What is older goes a sixth of that time later at the latest. 0: for ever.",
                            &audit_retention, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MIN, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("herald.audit_statement", "Records the text of the statement with audited changes.",
                             "It may show what exclude and mask hide.", &audit_statement, false, PGC_SUSET, 0, nullptr,
                             nullptr, nullptr);
    MarkGUCPrefixReserved("herald");
}

}  // namespace herald::settings
