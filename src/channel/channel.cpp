// See channel.hpp. Entries belong to a role, because a SECURITY DEFINER function switches roles for
// each call. A change elsewhere only ends the epoch: an entry of an older one is filled again
// when it is next looked up, so that nothing is freed under a caller's feet.

#include "channel/channel.hpp"

#include "channel/channel_table.hpp"
#include "outbox/outbox.hpp"
#include "pg/epoch.hpp"
#include "pg/extension.hpp"
#include "stats/channel_counters.hpp"

extern "C" {
#include "mb/pg_wchar.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/syscache.h"
}

namespace herald {

namespace {

// Undeclared channels can be any number: beyond this the cache starts again.
constexpr long kMaxCached = 4096;

struct NameKey {
    Oid role;
    char name[NAMEDATALEN];  // padded with zeros
};

struct CachedChannel {
    NameKey key;
    pg::Stamp stamp;
    Channel channel;
};

struct CachedName {
    int32 id;
    pg::Stamp stamp;
    char name[NAMEDATALEN];
};

MemoryContext caches = nullptr;  // of both; NULL: there are none
HTAB *by_name = nullptr;
HTAB *by_id = nullptr;
pg::Epoch epoch;
CachedChannel *latest = nullptr;  // most publishers use one channel

void Forget() { epoch.End(); }
void ForgetOnSyscache(Datum, pg::SyscacheNumber, uint32) { epoch.End(); }

HTAB *CreateCache(MemoryContext context, const char *name, Size key_size, Size entry_size) {
    HASHCTL control;
    std::memset(&control, 0, sizeof(control));
    control.keysize = key_size;
    control.entrysize = entry_size;
    control.hcxt = context;
    return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void PrepareCaches() {
    // Made anew where they grew too large. Somebody may hold an entry, so the old ones go with the transaction.
    if (caches != nullptr &&
        (hash_get_num_entries(by_name) >= kMaxCached || hash_get_num_entries(by_id) >= kMaxCached)) {
        MemoryContextSetParent(caches, TopTransactionContext);
        caches = nullptr;
        latest = nullptr;
    }
    if (caches != nullptr) return;
    MemoryContext context =
        AllocSetContextCreate(TopTransactionContext, "pg_herald channel caches", ALLOCSET_SMALL_SIZES);
    by_name = CreateCache(context, "pg_herald channels", sizeof(NameKey), sizeof(CachedChannel));
    by_id = CreateCache(context, "pg_herald channel ids", sizeof(int32), sizeof(CachedName));
    MemoryContextSetParent(context, TopMemoryContext);
    caches = context;
}

Channel UndeclaredChannel(const NameKey &key) {
    Channel channel{};
    std::memcpy(channel.name, key.name, sizeof(channel.name));
    channel.announce = AnnounceMode::kPayload;
    channel.privileges = kPrivilegePublish;
    return channel;
}

void Fill(CachedChannel *cached, const NameKey &key) {
    const pg::Stamp begun = epoch.Now();
    cached->stamp = {};
    Channel channel;
    if (!ReadChannelByName(key.name, &channel)) channel = UndeclaredChannel(key);
    if (channel.declared) channel.privileges = PrivilegesOf(channel.id, channel.owner, key.role);
    channel.role = key.role;
    channel.counters = -1;
    channel.compiled_schema = SchemaHandle{};
    cached->channel = channel;
    cached->stamp = begun;
}

bool Matches(const CachedChannel *cached, Oid role, const char *name, std::size_t length) {
    return epoch.Is(cached->stamp) && cached->key.role == role && std::memcmp(cached->key.name, name, length) == 0 &&
           cached->key.name[length] == '\0';
}

}  // namespace

const Channel &LookUpChannel(const char *name, std::size_t length) {
    Oid role = GetUserId();

    // Names come from tables, too.
    if (length == 0 || length >= NAMEDATALEN) CheckChannelName(name, length);
    // Cheap where nothing happened; what another session committed before now counts.
    AcceptInvalidationMessages();
    if (latest != nullptr && Matches(latest, role, name, length)) return latest->channel;

    NameKey key;
    std::memset(&key, 0, sizeof(key));
    key.role = role;
    std::memcpy(key.name, name, length);
    PrepareCaches();
    bool found;
    CachedChannel *cached = static_cast<CachedChannel *>(hash_search(by_name, &key, HASH_ENTER, &found));
    if (!found) cached->stamp = {};
    if (!epoch.Is(cached->stamp)) {
        // Oids first: the callback that makes entries old depends on them.
        (void)pg::Tables();
        Fill(cached, key);
    }
    latest = cached;
    return cached->channel;
}

const Channel *LookUpChannelById(int32 id) {
    AcceptInvalidationMessages();
    PrepareCaches();
    bool found;
    CachedName *cached = static_cast<CachedName *>(hash_search(by_id, &id, HASH_ENTER, &found));
    if (!found) cached->stamp = {};
    if (!epoch.Is(cached->stamp)) {
        (void)pg::Tables();
        const pg::Stamp begun = epoch.Now();
        cached->stamp = {};
        Channel channel;
        std::memset(cached->name, 0, sizeof(cached->name));
        if (ReadChannelById(id, &channel)) pg::CopyString(cached->name, channel.name, NAMEDATALEN);
        cached->stamp = begun;
    }
    if (cached->name[0] == '\0') return nullptr;
    // The name may have passed to another channel between the two look-ups.
    const Channel &channel = LookUpChannel(cached->name);
    return channel.id == id ? &channel : nullptr;
}

int CountersOf(const Channel &channel) {
    if (!ChannelCounterSlotValid(channel.counters))
        channel.counters = ChannelCounterSlot(MyDatabaseId, channel.name, channel.declared,
                                              channel.declared ? channel.owner : channel.role);
    return channel.counters;
}

void CheckChannelName(const char *name, std::size_t length) {
    if (name == nullptr) ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("channel must not be NULL")));
    if (length == 0) ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("channel name is empty")));
    if (length >= NAMEDATALEN)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("channel name is too long"),
                        errdetail("\"%.*s...\" has %zu bytes; at most %d are allowed.",
                                  pg_mbcliplen(name, static_cast<int>(length), NAMEDATALEN - 1), name, length,
                                  NAMEDATALEN - 1)));
}

char *ChannelNameArgument(FunctionCallInfo fcinfo, int argument) {
    if (PG_ARGISNULL(argument)) CheckChannelName(nullptr, 0);
    char *name = text_to_cstring(PG_GETARG_TEXT_PP(argument));
    CheckChannelName(name, std::strlen(name));
    return name;
}

void ReportUndeclared(const char *name) {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("channel \"%s\" is not declared", name),
                    errhint("Declare it with herald.create_channel().")));
    pg_unreachable();
}

void InitChannelCache() {
    pg::OnCatalogChange(Forget);
    CacheRegisterSyscacheCallback(AUTHOID, ForgetOnSyscache, static_cast<Datum>(0));
    CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, ForgetOnSyscache, static_cast<Datum>(0));
}

}  // namespace herald
