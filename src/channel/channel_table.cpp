// See channel_table.hpp. Each scan takes a snapshot of its own: the cache must not serve a long
// transaction, or a repeatable read one, what an invalidation just told it to forget.

#include "channel/channel_table.hpp"

#include "pg/extension.hpp"
#include "pg/roles.hpp"
#include "tables/own_tables.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace herald {

namespace {

// Columns of herald_internal.channel_store and herald_internal.channel_grant_store, in the order of the script.
enum StoreColumn : AttrNumber {
    kId = 1,
    kChannel,
    kOwner,
    kDurable,
    kAnnounce,
    kAcceptNotify,
    kMaxPayloadBytes,
    kDescription,
    kCreatedAt,
    kWhenFull,
    kSchema,
    kValidation,
    kCheckFormats,
    kSchemaVersion,
    kOwnerRole,
};
enum GrantColumn : AttrNumber { kChannelId = 1, kGrantee, kPrivilege, kGranteeRole };

Oid RelationOf(const char *name) {
    Oid oid = get_relname_relid(name, pg::Tables().internal);
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("relation \"herald_internal.%s\" is missing", name),
                        errhint("Create the extension pg_herald again.")));
    return oid;
}

char *TextOrNull(HeapTuple tuple, AttrNumber column, TupleDesc descriptor) {
    bool is_null;
    Datum value = heap_getattr(tuple, column, descriptor, &is_null);
    return is_null ? nullptr : TextDatumGetCString(value);
}

void Unpack(HeapTuple tuple, TupleDesc descriptor, Channel *channel) {
    bool is_null;
    auto get = [&](StoreColumn column) { return heap_getattr(tuple, column, descriptor, &is_null); };

    *channel = Channel{};
    channel->declared = true;
    channel->id = DatumGetInt32(get(kId));
    text_to_cstring_buffer(DatumGetTextPP(get(kChannel)), channel->name, sizeof(channel->name));
    channel->durable = DatumGetBool(get(kDurable));
    channel->accept_notify = DatumGetBool(get(kAcceptNotify));
    char *announce = text_to_cstring(DatumGetTextPP(get(kAnnounce)));
    channel->announce = AnnounceOfName(announce);
    Datum limit = get(kMaxPayloadBytes);
    channel->max_payload_bytes = is_null ? 0 : DatumGetInt32(limit);
    char *when_full = text_to_cstring(DatumGetTextPP(get(kWhenFull)));
    channel->when_full = WhenFullOfName(when_full);
    (void)get(kSchema);
    const bool has_schema = !is_null;
    char *validation = text_to_cstring(DatumGetTextPP(get(kValidation)));
    if (has_schema) channel->validation = ValidationOfName(validation);
    channel->check_formats = DatumGetBool(get(kCheckFormats));
    if (channel->validation != Validation::kOff) channel->schema_version = DatumGetInt32(get(kSchemaVersion));
    char *owner = text_to_cstring(DatumGetTextPP(get(kOwner)));
    channel->owner = pg::StoredRole(owner, TextOrNull(tuple, kOwnerRole, descriptor));
}

bool ReadChannel(const char *index, ScanKey key, Channel *channel) {
    Relation table = pg::OpenTable(pg::Tables().channel_store, AccessShareLock, kChannelForm);
    SysScanDesc scan = systable_beginscan(table, RelationOf(index), true, nullptr, 1, key);
    HeapTuple tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) Unpack(tuple, RelationGetDescr(table), channel);
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return HeapTupleIsValid(tuple);
}

}  // namespace

bool ReadChannelByName(const char *name, Channel *channel) {
    ScanKeyData key;
    ScanKeyInit(&key, kChannel, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
    key.sk_collation = C_COLLATION_OID;
    return ReadChannel("channel_store_channel_key", &key, channel);
}

bool ReadChannelById(int32 id, Channel *channel) {
    ScanKeyData key;
    ScanKeyInit(&key, kId, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
    return ReadChannel("channel_store_pkey", &key, channel);
}

Jsonb *ReadChannelSchema(int32 id) {
    ScanKeyData key;
    ScanKeyInit(&key, kId, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
    Relation table = pg::OpenTable(pg::Tables().channel_store, AccessShareLock, kChannelForm);
    SysScanDesc scan = systable_beginscan(table, RelationOf("channel_store_pkey"), true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    Jsonb *schema = nullptr;
    if (HeapTupleIsValid(tuple)) {
        bool is_null;
        Datum value = heap_getattr(tuple, kSchema, RelationGetDescr(table), &is_null);
        if (!is_null) schema = DatumGetJsonbPCopy(value);
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return schema;
}

uint8 PrivilegesOf(int32 channel_id, Oid owner, Oid role) {
    constexpr uint8 kAll = kPrivilegePublish | kPrivilegeSubscribe | kPrivilegeRead;
    uint8 privileges = 0;
    ScanKeyData key;

    if (superuser_arg(role) || pg::HasRightsOf(role, owner)) return kAll;

    ScanKeyInit(&key, kChannelId, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(channel_id));
    Relation table = pg::OpenTable(RelationOf("channel_grant_store"), AccessShareLock, kChannelGrantForm);
    SysScanDesc scan = systable_beginscan(table, RelationOf("channel_grant_store_pkey"), true, nullptr, 1, &key);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        bool is_null;
        TupleDesc descriptor = RelationGetDescr(table);
        Datum grantee = heap_getattr(tuple, kGrantee, descriptor, &is_null);
        Datum privilege = heap_getattr(tuple, kPrivilege, descriptor, &is_null);
        char *name = TextDatumGetCString(grantee);
        const bool everybody = std::strcmp(name, "public") == 0;
        // A grantee that was dropped is nobody.
        Oid member_of = everybody ? InvalidOid : pg::StoredRole(name, TextOrNull(tuple, kGranteeRole, descriptor));
        bool applies = everybody || (OidIsValid(member_of) && has_privs_of_role(role, member_of));
        if (applies) privileges |= PrivilegeOfName(TextDatumGetCString(privilege));
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return privileges;
}

void RequireChannelOwner(const Channel &channel) {
    if (pg::HasRightsOf(GetUserId(), channel.owner)) return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of channel \"%s\"", channel.name),
                    OidIsValid(channel.owner) ? errhint("Its owner is \"%s\".", GetUserNameFromId(channel.owner, false))
                                              : errhint("Its owner was dropped: a superuser can set another one with "
                                                        "herald.alter_channel(owner => ...).")));
}

uint8 PrivilegeOfName(const char *name) {
    if (std::strcmp(name, "publish") == 0) return kPrivilegePublish;
    if (std::strcmp(name, "subscribe") == 0) return kPrivilegeSubscribe;
    if (std::strcmp(name, "read") == 0) return kPrivilegeRead;
    return 0;
}

uint8 RequirePrivilege(const char *name) {
    uint8 privilege = PrivilegeOfName(name);
    if (privilege == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown channel privilege \"%s\"", name),
                        errhint("Known are publish, subscribe and read.")));
    return privilege;
}

const char *NameOfPrivilege(ChannelPrivilege privilege) {
    switch (privilege) {
        case kPrivilegePublish:
            return "publish";
        case kPrivilegeSubscribe:
            return "subscribe";
        case kPrivilegeRead:
            return "read";
    }
    pg_unreachable();
}

AnnounceMode AnnounceOfName(const char *name) {
    if (std::strcmp(name, "off") == 0) return AnnounceMode::kOff;
    if (std::strcmp(name, "payload") == 0) return AnnounceMode::kPayload;
    if (std::strcmp(name, "pointer") == 0) return AnnounceMode::kPointer;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown kind of announcement \"%s\"", name),
                    errhint("Known are payload, pointer and off.")));
    pg_unreachable();
}

WhenFull WhenFullOfName(const char *name) {
    if (std::strcmp(name, "refuse") == 0) return WhenFull::kRefuse;
    if (std::strcmp(name, "dead_letters") == 0) return WhenFull::kDeadLetters;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown policy for a full log \"%s\"", name),
                    errhint("Known are refuse and dead_letters.")));
    pg_unreachable();
}

const char *NameOfWhenFull(WhenFull when_full) { return when_full == WhenFull::kRefuse ? "refuse" : "dead_letters"; }

Validation ValidationOfName(const char *name) {
    for (Validation validation : {Validation::kOff, Validation::kWarn, Validation::kReject})
        if (std::strcmp(name, NameOfValidation(validation)) == 0) return validation;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown validation \"%s\"", name),
                    errhint("Known are reject, warn and off.")));
    pg_unreachable();
}

const char *NameOfValidation(Validation validation) {
    switch (validation) {
        case Validation::kOff:
            return "off";
        case Validation::kWarn:
            return "warn";
        case Validation::kReject:
            return "reject";
    }
    pg_unreachable();
}

const char *NameOfAnnounce(AnnounceMode mode) {
    switch (mode) {
        case AnnounceMode::kOff:
            return "off";
        case AnnounceMode::kPayload:
            return "payload";
        case AnnounceMode::kPointer:
            return "pointer";
    }
    pg_unreachable();
}

}  // namespace herald
