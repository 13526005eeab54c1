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
#include "pg/preload.hpp"
#include "settings.hpp"
#include "shared_memory.hpp"
#include "stats/dead_counts.hpp"
#include "stats/pending_counts.hpp"
#include "subscription/control.hpp"
#include "worker/attempt.hpp"
#include "process/claims.hpp"
#include "process/utility_hook.hpp"
#include "process/processes.hpp"
#include "process/setting_changes.hpp"

namespace {

using namespace herald;

// Feeds publish what they have noted before the outbox is filled with all that was published; the others do not depend on one
// another.
constexpr const pg::TransactionPart *kTransactionParts[] = {
    &kNamedLocksPart,  // refuses PREPARE
    &kPauseRequestsPart, &kListenPart,       &kClaimsPart,     &kSettingChangesPart,
    &kFeedsPart,  // publishes
    &kAuditContextPart,  &kTableChangesPart, &kDeadCountsPart, &kPendingCountsPart,  &pg::kOwnStatementPart,
    &pg::kMarkersPart,
    &kOutboxPart,  // fills the outbox, and wakes who takes from it
};

}  // namespace

extern "C" {
#include "access/parallel.h"

#if PG_VERSION_NUM >= 180000
PG_MODULE_MAGIC_EXT(.name = "pg_herald", .version = PG_HERALD_VERSION);
#else
PG_MODULE_MAGIC;
#endif

PGDLLEXPORT void _PG_init(void);
}

void _PG_init(void) {
    if (!process_shared_preload_libraries_in_progress) {
        // In a parallel worker its leader has said so.
        if (!IsParallelWorker()) pg::WarnOfLateLoad();
        return;
    }
    pg::NotePreloaded();
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
