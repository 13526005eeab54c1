// See named_locks.hpp.
//
// What the callbacks do can't fail: they ask the lock manager's local table, link cells that were filled
// before, and free memory. They run when the server has released the transaction's locks; the commit's rows
// are visible by then.

#include "locks/named_locks.hpp"

#include "outbox/reserved.hpp"
#include "publish/publish.hpp"
#include "stats/channel_counters.hpp"
#include "pg/transaction_list.hpp"

extern "C" {
#include "access/xact.h"
#include "common/hashfn.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "utils/resowner.h"
}

namespace herald {

namespace {

// The fourth field of an advisory lock: pg_advisory_lock has 1 and 2. The other bits are of the name's hash.
constexpr uint16 kSpace = 0x4000;
constexpr char kPrefix[] = "RELEASE:";

// One for each name and channel it is announced on.
struct OwnLock {
    OwnLock *next;
    LOCKTAG tag;
    OutboxChain announcement;
    uint64 bytes;  // of its payload
    int counters;  // of the channel
    bool taken;    // false: the lock manager was not asked yet, or said no
    int held;      // how often it was taken for the session
    // Since when the transaction has it; invalid: it does not.
    SubTransactionId transaction;
    char channel[NAMEDATALEN];
};

struct PendingUnlock {
    LOCKTAG tag;
    SubTransactionId subtransaction;
};

OwnLock *own_locks = nullptr;
DatabaseShared *own_database = nullptr;
bool exit_registered = false;

// Kept until the transaction's locks are released, which is after its end is told.
pg::TransactionList<PendingUnlock> unlocks;

bool SameTag(const LOCKTAG &one, const LOCKTAG &other) { return std::memcmp(&one, &other, sizeof(LOCKTAG)) == 0; }

// 78 bits of hash: two names that are taken for one never happen by chance.
LOCKTAG TagOf(const char *name) {
    const auto *bytes = reinterpret_cast<const unsigned char *>(name);
    const int length = static_cast<int>(std::strlen(name));
    const uint64 hash = hash_bytes_extended(bytes, length, 0);
    const uint64 more = hash_bytes_extended(bytes, length, 1);
    LOCKTAG tag;
    std::memset(&tag, 0, sizeof(tag));
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(hash >> 32), static_cast<uint32>(hash),
                         static_cast<uint16>(kSpace | (more & (kSpace - 1))));
    return tag;
}

// None of these can fail.

void Remove(OwnLock **place) {
    OwnLock *gone = *place;
    *place = gone->next;
    pfree(gone);
}

void Announce(OwnLock *lock) {
    MakeReserved(own_database, &lock->announcement);
    CountNow(lock->counters, ChannelCounter::kPublished, 1);
    CountNow(lock->counters, ChannelCounter::kPublishedBytes, lock->bytes);
}

// The session's part of a lock; where DISCARD ALL was faster, there is nothing to do.
void Release(const LOCKTAG &tag) {
    for (OwnLock *lock = own_locks; lock != nullptr; lock = lock->next) {
        if (lock->held == 0 || !SameTag(lock->tag, tag)) continue;
        lock->held--;
        break;
    }
    if (pg::HoldsExclusively(tag)) (void)LockRelease(&tag, ExclusiveLock, true);
}

void OnRelease(ResourceReleasePhase phase, bool committed, bool top_level, void *) {
    if (phase != RESOURCE_RELEASE_AFTER_LOCKS || (own_locks == nullptr && unlocks.count == 0)) return;
    // Of what is released within a transaction only a rollback takes locks away.
    if (!top_level && committed) return;
    if (top_level) {
        if (committed)
            for (const PendingUnlock &unlock : unlocks) Release(unlock.tag);
        unlocks.Forget();
        for (OwnLock *lock = own_locks; lock != nullptr; lock = lock->next) lock->transaction = InvalidSubTransactionId;
    }
    AnnounceReleases();
}

// The lock manager has let go of everything when the callbacks of this kind run.
void OnExit(int, Datum) {
    while (own_locks != nullptr) {
        if (own_locks->taken)
            Announce(own_locks);
        else
            FreeChain(own_database, &own_locks->announcement);
        Remove(&own_locks);
    }
}

// Another session would have to announce it.
void RefusePrepare() {
    bool concerned = unlocks.count > 0;
    for (OwnLock *lock = own_locks; lock != nullptr; lock = lock->next)
        concerned = concerned || lock->transaction != InvalidSubTransactionId;
    if (concerned)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot PREPARE a transaction that has taken or released a lock by "
                               "herald.try_lock() or herald.unlock()"),
                        errhint("Locks of the session can be taken and released before and after it.")));
}

void KeepSub(SubTransactionId own, SubTransactionId parent) {
    unlocks.KeepSub(own, parent);
    for (OwnLock *lock = own_locks; lock != nullptr; lock = lock->next)
        if (lock->transaction == own) lock->transaction = parent;
}

void DropSub(SubTransactionId own) {
    unlocks.DropSub(own);
    for (OwnLock *lock = own_locks; lock != nullptr; lock = lock->next)
        if (lock->transaction >= own) lock->transaction = InvalidSubTransactionId;
}

// The entry for the lock and the channel, with its announcement reserved.
OwnLock *FindOrReserve(const LOCKTAG &tag, const char *name, const Channel &channel) {
    for (OwnLock *lock = own_locks; lock != nullptr; lock = lock->next)
        if (lock->taken && SameTag(lock->tag, tag) && std::strcmp(lock->channel, channel.name) == 0) return lock;

    own_database = ThisDatabase();
    if (!exit_registered) on_shmem_exit(OnExit, static_cast<Datum>(0));
    exit_registered = true;
    const char *payload = psprintf("%s%s", kPrefix, name);
    OwnLock *lock = static_cast<OwnLock *>(MemoryContextAllocZero(TopMemoryContext, sizeof(OwnLock)));
    lock->tag = tag;
    lock->counters = CountersOf(channel);
    lock->bytes = std::strlen(payload);
    pg::CopyString(lock->channel, channel.name, sizeof(lock->channel));
    lock->next = own_locks;
    own_locks = lock;
    if (!ReserveAnnouncement(own_database, channel.name, payload, lock->counters, &lock->announcement)) {
        Remove(&own_locks);
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                        errmsg("the outbox has no room to announce the release of a lock"),
                        errhint("Raise herald.outbox_size, or look at herald.status() for what fills it.")));
    }
    return lock;
}

// Where pg_advisory_unlock_all() took a lock away within this transaction, nothing is left to unlock.
void ForgetUses(const LOCKTAG &tag) {
    for (OwnLock *lock = own_locks; lock != nullptr; lock = lock->next)
        if (SameTag(lock->tag, tag)) lock->held = 0;
    int kept = 0;
    for (const PendingUnlock &unlock : unlocks)
        if (!SameTag(unlock.tag, tag)) unlocks.items[kept++] = unlock;
    unlocks.count = kept;
}

void CheckName(const char *name) {
    const std::size_t length = std::strlen(name);
    if (length == 0) ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("lock name is empty")));
    if (length > kLongestLockName)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("lock name is too long"),
                        errdetail("It has %zu bytes; at most %zu are allowed.", length, kLongestLockName)));
}

}  // namespace

const pg::TransactionPart kNamedLocksPart = {.before_commit = pg::NoEnd,
                                             .before_prepare = RefusePrepare,
                                             .committed = pg::NoEnd,
                                             .prepared = pg::NoEnd,
                                             .aborted = pg::NoEnd,
                                             .sub_committed = KeepSub,
                                             .sub_aborted = DropSub};

LockScope LockScopeOfName(const char *name) {
    if (std::strcmp(name, "session") == 0) return LockScope::kSession;
    if (std::strcmp(name, "transaction") == 0) return LockScope::kTransaction;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown lock scope \"%s\"", name),
                    errhint("Known are session and transaction.")));
    pg_unreachable();
}

bool TryLock(const char *name, LockScope scope, const char *channel_name) {
    CheckName(name);
    const Channel &channel = RequireNotifiable(channel_name, "herald.try_lock()");
    const LOCKTAG tag = TagOf(name);
    if (!pg::HoldsExclusively(tag)) ForgetUses(tag);
    OwnLock *lock = FindOrReserve(tag, name, channel);
    if (LockAcquire(&tag, ExclusiveLock, scope == LockScope::kSession, true) == LOCKACQUIRE_NOT_AVAIL) {
        lock->taken = false;
        AnnounceReleases();
        return false;
    }
    lock->taken = true;
    if (scope == LockScope::kSession)
        lock->held++;
    else if (lock->transaction == InvalidSubTransactionId)
        lock->transaction = GetCurrentSubTransactionId();
    return true;
}

bool Unlock(const char *name) {
    CheckName(name);
    const LOCKTAG tag = TagOf(name);
    int held = 0;
    bool of_transaction = false;
    for (const OwnLock *lock = own_locks; lock != nullptr; lock = lock->next) {
        if (!SameTag(lock->tag, tag)) continue;
        held += lock->held;
        of_transaction = of_transaction || lock->transaction != InvalidSubTransactionId;
    }
    if (held > 0 && !pg::HoldsExclusively(tag)) held = 0;
    for (const PendingUnlock &unlock : unlocks)
        if (SameTag(unlock.tag, tag)) held--;
    if (held <= 0) {
        if (of_transaction)
            ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                              errmsg("lock \"%s\" is held until the transaction ends", name)));
        return false;
    }
    (void)unlocks.Add({tag, GetCurrentSubTransactionId()});
    return true;
}

void AnnounceReleases() {
    for (OwnLock **place = &own_locks; *place != nullptr;) {
        OwnLock *lock = *place;
        if (lock->taken && pg::HoldsExclusively(lock->tag)) {
            place = &lock->next;
            continue;
        }
        if (lock->taken)
            Announce(lock);
        else
            FreeChain(own_database, &lock->announcement);
        Remove(place);
    }
}

void InitNamedLocks() { RegisterResourceReleaseCallback(OnRelease, nullptr); }

}  // namespace herald
