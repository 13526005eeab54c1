// The module: what is set up when the server loads the library.

#include "announce/direct.hpp"
#include "audit/audit_context.hpp"
#include "audit/audit_target.hpp"
#include "audit/audit_watch.hpp"
#include "change/table_changes.hpp"
#include "channel/channel.hpp"
#include "feed/feed_admin.hpp"
#include "feed/feed_publish.hpp"
#include "listen/listen_commands.hpp"
#include "locks/named_locks.hpp"
#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/marker.hpp"
#include "pg/table_trust.hpp"
#include "pg/pg.hpp"
#include "settings.hpp"
#include "shared_memory.hpp"
#include "stats/dead_counts.hpp"
#include "stats/pending_counts.hpp"
#include "subscription/progress.hpp"
#include "worker/attempt.hpp"
#include "worker/claims.hpp"
#include "worker/commands.hpp"
#include "worker/processes.hpp"

namespace {

using namespace herald;

// Feeds publish what they have noted before the outbox is filled with all that was published; the others do not depend on one
// another.
constexpr const pg::TransactionPart *kTransactionParts[] = {
    &kNamedLocksPart,  // refuses PREPARE
    &kPauseRequestsPart,
    &kListenPart,
    &kClaimsPart,
    &kFeedsPart,  // publishes
    &kAuditContextPart,
    &kTableChangesPart,
    &kDeadCountsPart,
    &kPendingCountsPart,
    &pg::kOwnStatementPart,
    &pg::kMarkersPart,
    &kOutboxPart,  // fills the outbox, and wakes who takes from it
};

}  // namespace

extern "C" {
#if PG_VERSION_NUM >= 180000
PG_MODULE_MAGIC_EXT(.name = "pg_herald", .version = PG_HERALD_VERSION);
#else
PG_MODULE_MAGIC;
#endif

PGDLLEXPORT void _PG_init(void);
}

void _PG_init(void) {
    if (!process_shared_preload_libraries_in_progress)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("pg_herald must be loaded by shared_preload_libraries"),
                 errhint("Add pg_herald to shared_preload_libraries in postgresql.conf and restart "
                         "the server.")));
    settings::Define();
    InitSharedMemory();
    pg::FollowTransactions(kTransactionParts, lengthof(kTransactionParts));
    InitOutbox(AnnounceDirectly);
    pg::InitExtensionCache();
    pg::InitTableTrust();
    InitChannelCache();
    InitAttempts();
    InitAuditTargets();
    InitTableChanges();
    InitAuditWatch();
    InitFeedWatch();
    InitFeeds([](Oid relation) { return FindTarget(relation) != nullptr; });
    InitCommandHook();
    InitListenCommands();
    InitNamedLocks();
    // pg_upgrade starts the server to copy catalogs: nothing may run then.
    if (!IsBinaryUpgrade) RegisterLauncher();
}
