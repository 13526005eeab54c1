// See channel_admin.hpp. Rows are locked in the order channel, then what hangs on it, so that concurrent
// changes of one channel wait for each other and then find a clean state: an error names the channel,
// never a constraint of ours.

#include "channel/channel_admin.hpp"

#include "channel/channel_grants.hpp"
#include "channel/channel_schema.hpp"
#include "channel/channel_use.hpp"
#include "channel/notify_share.hpp"
#include "outbox/outbox.hpp"
#include "pg/extension.hpp"
#include "pg/as_owner.hpp"
#include "pg/roles.hpp"
#include "pg/spi.hpp"
#include "pg/subtransaction.hpp"
#include "stats/channel_counters.hpp"

namespace herald {

namespace {

// A channel's row, locked, with what alter and drop need. Strings live in the caller's context.
struct LockedChannel {
    Channel channel;  // validation as stored
    Jsonb *schema;    // NULL: none
};

void RequireCreate(const char *name) {
    if (pg::HasDatabasePrivilege(MyDatabaseId, GetUserId(), ACL_CREATE)) return;
    ereport(ERROR,
            (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to declare channel \"%s\"", name),
             errhint("Declaring a channel needs the CREATE privilege on the database.")));
}

void CheckOptions(const char *name, bool durable, bool accept_notify, AnnounceMode announce, int32 max_payload_bytes) {
    if (accept_notify && !durable)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("channel \"%s\" cannot accept notifications: it is not durable", name),
                        errhint("accept_notify stores what NOTIFY sends; it needs durable => true.")));
    if (announce == AnnounceMode::kPointer && !durable)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("channel \"%s\" cannot announce pointers: it is not durable", name),
                        errdetail("A pointer names a stored message."),
                        errhint("Use announce => 'payload', which every LISTENer can read, or "
                                "durable => true.")));
    if (max_payload_bytes < 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("max_payload_bytes must not be negative")));
}

// The id of the new row, or 0 where the name is taken. Waits for a concurrent declaration.
int32 InsertChannel(const char *name, const Channel &channel, Oid owner_role, Jsonb *schema, const char *description) {
    const char *owner = GetUserNameFromId(owner_role, false);
    const char *identity = pg::RoleIdentity(owner_role);
    return pg::AsOwner([&] {
        bool unlimited = channel.max_payload_bytes == 0;
        pg::Param limit = pg::Int4(channel.max_payload_bytes);
        limit.is_null = unlimited;
        uint64 rows = pg::SpiRun(
            "INSERT INTO herald_internal.channel_store (channel, owner, durable, announce, accept_notify, "
            "max_payload_bytes, description, when_full, schema, validation, check_formats, schema_version, owner_role) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) "
            "ON CONFLICT (channel) DO NOTHING RETURNING id",
            std::array{pg::Text(name), pg::Text(owner), pg::Bool(channel.durable),
                       pg::Text(NameOfAnnounce(channel.announce)), pg::Bool(channel.accept_notify), limit,
                       pg::Text(description), pg::Text(NameOfWhenFull(channel.when_full)),
                       pg::Jsonb(JsonbPGetDatum(schema), schema == nullptr),
                       pg::Text(NameOfValidation(channel.validation)), pg::Bool(channel.check_formats),
                       pg::Int4(channel.schema_version), pg::Text(identity)});
        int32 id = rows == 0 ? 0 : pg::SpiInt4(0, 1);
        return id;
    });
}

// Locks the row until the end of the transaction. False: there is no such channel.
bool LockChannel(const char *name, LockedChannel *locked) {
    MemoryContext context = CurrentMemoryContext;
    return pg::AsOwner([&] {
        uint64 rows = pg::SpiRun(
            "SELECT id, owner, durable, announce, accept_notify, max_payload_bytes, when_full, validation, "
            "check_formats, schema_version, schema, owner_role "
            "FROM herald_internal.channel_store WHERE channel = $1 FOR UPDATE",
            std::array{pg::Text(name)});
        if (rows > 0) {
            Channel channel{};
            pg::CopyString(channel.name, name, sizeof(channel.name));
            channel.declared = true;
            channel.id = pg::SpiInt4(0, 1);
            channel.durable = pg::SpiBool(0, 3);
            channel.announce = AnnounceOfName(pg::SpiText(0, 4));
            channel.accept_notify = pg::SpiBool(0, 5);
            channel.max_payload_bytes = pg::SpiInt4(0, 6);
            channel.when_full = WhenFullOfName(pg::SpiText(0, 7));
            channel.validation = ValidationOfName(pg::SpiText(0, 8));
            channel.check_formats = pg::SpiBool(0, 9);
            channel.schema_version = pg::SpiInt4(0, 10);
            pg::Field schema = pg::SpiField(0, 11, JSONBOID);
            locked->schema = nullptr;
            if (!schema.is_null) {
                MemoryContext spi = MemoryContextSwitchTo(context);
                locked->schema = DatumGetJsonbPCopy(schema.value);
                MemoryContextSwitchTo(spi);
            }
            char *owner = pg::SpiText(0, 2);
            channel.owner = pg::StoredRole(owner, pg::SpiText(0, 12));
            locked->channel = channel;
        }
        return rows > 0;
    });
}

// What would be lost with a channel, or with its durability.
struct Dependents {
    int64 subscriptions;
    int64 parked;
    int64 dead;
    int64 unsettled;  // messages of the log that some subscription has not settled
};

Dependents CountDependents(int32 channel_id) {
    Dependents found;
    return pg::AsOwner([&] {
        pg::ReadWithoutIndexes();
        pg::SpiRun(
            "WITH subscriptions AS MATERIALIZED ("
            "  SELECT id FROM herald_internal.subscription_store WHERE channel_id = $1), "
            "messages AS (SELECT id FROM herald_internal.log WHERE channel_id = $1) "
            "SELECT (SELECT count(*) FROM subscriptions), "
            "       (SELECT count(*) FROM herald_internal.parked_store WHERE channel_id = $1), "
            "       (SELECT count(*) FROM herald_internal.dead_letter_store WHERE channel_id = $1), "
            "       (SELECT count(DISTINCT m.id) FROM messages AS m, subscriptions AS s "
            "         WHERE NOT EXISTS ("
            "               SELECT FROM herald_internal.settled AS d WHERE d.subscription_id = s.id AND d.message_id = m.id))",
            std::array{pg::Int4(channel_id)});
        found.subscriptions = pg::SpiInt8(0, 1);
        found.parked = pg::SpiInt8(0, 2);
        found.dead = pg::SpiInt8(0, 3);
        found.unsettled = pg::SpiInt8(0, 4);
        return found;
    });
}

void RequireNoDependents(const Channel &channel, const char *action, const char *hint) {
    Dependents found{};
    pg::ReadAndLetGo([&] { found = CountDependents(channel.id); });
    if (found.subscriptions == 0 && found.parked == 0 && found.dead == 0) return;
    ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                    errmsg("cannot %s channel \"%s\" because it is in use", action, channel.name),
                    errdetail("Subscriptions: " INT64_FORMAT ", unsettled messages: " INT64_FORMAT
                              ", parked tasks: " INT64_FORMAT ", dead letters: " INT64_FORMAT ".",
                              found.subscriptions, found.unsettled, found.parked, found.dead),
                    errhint("%s", hint)));
}

// To a feed it makes no difference what kind of channel it has, but it needs one.
void RequireNoFeeds(const Channel &channel) {
    MemoryContext context = CurrentMemoryContext;
    int64 count = 0;
    const char *table = nullptr;
    pg::AsOwner([&] {
        pg::SpiRun(
            "SELECT count(*), min(relation::pg_catalog.text) FROM herald_internal.change_feed_store WHERE channel_id = $1",
            std::array{pg::Int4(channel.id)});
        count = pg::SpiInt8(0, 1);
        table = count == 0 ? nullptr : MemoryContextStrdup(context, pg::SpiText(0, 2));
    });
    if (count == 0) return;
    ereport(
        ERROR,
        (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
         errmsg("cannot drop channel \"%s\" because it is in use", channel.name),
         errdetail_plural(INT64_FORMAT " table publishes its changes there: %s.",
                          INT64_FORMAT " tables publish their changes there, one is %s.",
                          static_cast<unsigned long>(count), count, table),
         errhint("Call herald.disable_change_feed() first, or drop the channel with force => true: then feeds publish "
                 "nothing, and warn.")));
}

// The role of the new owner.
Oid RequireNewOwner(const char *name, const char *owner) {
    Oid role = pg::RoleByName(owner);
    if (!OidIsValid(role))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role \"%s\" does not exist", owner)));
    if (superuser()) return role;
    if (!pg::CanBecome(GetUserId(), role))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("must be a member of role \"%s\" to give it channel \"%s\"", owner, name)));
    if (!pg::HasDatabasePrivilege(MyDatabaseId, role, ACL_CREATE))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("role \"%s\" may not own channels", owner),
                        errhint("The owner of a channel needs the CREATE privilege on the database.")));
    return role;
}

}  // namespace

void NoteChannelChange() {
    pg::InvalidateCatalogCaches();
    // This transaction's own cache hears of it with the next command, also where none would count as
    // one: publish() right after create_channel() must see the channel.
    (void)GetCurrentCommandId(true);
    CommandCounterIncrement();
    RaiseFlagAtCommit(kFlagReload | kFlagReloadAnnouncer);
}

void CreateChannel(const char *name, const ChannelOptions &options, bool if_not_exists) {
    Channel channel{};
    channel.durable = options.durable.value_or(true);
    channel.accept_notify = options.accept_notify.value_or(false);
    channel.announce = options.announce.value_or(channel.durable ? AnnounceMode::kPointer : AnnounceMode::kPayload);
    channel.max_payload_bytes = options.max_payload_bytes.value_or(0);
    channel.when_full = options.when_full.value_or(WhenFull::kRefuse);

    channel.validation = options.validation.value_or(Validation::kReject);
    channel.check_formats = options.check_formats.value_or(false);
    Jsonb *schema = GivenSchema(options.schema);
    channel.schema_version = schema == nullptr ? 0 : 1;

    RequireCreate(name);
    if (!LookUpChannel(name).declared) RequireUnusedByOthers(name);
    CheckOptions(name, channel.durable, channel.accept_notify, channel.announce, channel.max_payload_bytes);
    if (schema != nullptr) CheckSchema(name, schema, channel.check_formats);
    if (channel.accept_notify) RequireNotifyShare(name, GetUserNameFromId(GetUserId(), false), 0);
    if (InsertChannel(name, channel, GetUserId(), schema, options.description) == 0) {
        ereport(if_not_exists ? NOTICE : ERROR,
                (errcode(ERRCODE_DUPLICATE_OBJECT), if_not_exists
                                                        ? errmsg("channel \"%s\" is already declared, skipping", name)
                                                        : errmsg("channel \"%s\" is already declared", name)));
        return;
    }
    NoteChannelChange();
}

void AlterChannel(const char *name, const ChannelOptions &options, bool force) {
    LockedChannel locked;
    if (!LockChannel(name, &locked)) ReportUndeclared(name);
    Channel &channel = locked.channel;
    RequireChannelOwner(channel);
    const char *identity = options.owner == nullptr ? nullptr : pg::RoleIdentity(RequireNewOwner(name, options.owner));

    bool durable = options.durable.value_or(channel.durable);
    bool accept_notify = options.accept_notify.value_or(channel.accept_notify);
    AnnounceMode announce = options.announce.value_or(channel.announce);
    int32 limit = options.max_payload_bytes.value_or(channel.max_payload_bytes);
    CheckOptions(name, durable, accept_notify, announce, limit);
    if (accept_notify && (!channel.accept_notify || options.owner != nullptr))
        RequireNotifyShare(name, options.owner != nullptr ? options.owner : pg::RoleNameNow(channel.owner, ""),
                           channel.id);
    if (channel.durable && !durable)
        RequireNoDependents(channel, "make ephemeral", "Unsubscribe first: what is not stored cannot be delivered.");

    Validation validation = options.validation.value_or(channel.validation);
    bool check_formats = options.check_formats.value_or(channel.check_formats);
    Jsonb *schema = options.schema != nullptr ? GivenSchema(options.schema) : locked.schema;
    if (schema != nullptr &&
        (options.schema != nullptr || validation != channel.validation || check_formats != channel.check_formats)) {
        CheckSchema(name, schema, check_formats);
        if (validation == Validation::kReject && !force) RequireStoredFit(channel, schema, check_formats);
    }

    pg::Param limit_param = pg::Int4(limit);
    limit_param.is_null = limit == 0;
    pg::AsOwner([&] {
        pg::SpiRun(
            "UPDATE herald_internal.channel_store SET owner = COALESCE($2, owner), "
            "owner_role = COALESCE($13, owner_role), durable = $3, announce = $4, accept_notify = $5, "
            "max_payload_bytes = $6, description = COALESCE($7, description), when_full = $8, "
            "validation = $9, check_formats = $10, schema = $11, schema_version = schema_version + $12 "
            "WHERE id = $1",
            std::array{pg::Int4(channel.id), pg::Text(options.owner), pg::Bool(durable),
                       pg::Text(NameOfAnnounce(announce)), pg::Bool(accept_notify), limit_param,
                       pg::Text(options.description),
                       pg::Text(NameOfWhenFull(options.when_full.value_or(channel.when_full))),
                       pg::Text(NameOfValidation(validation)), pg::Bool(check_formats),
                       pg::Jsonb(JsonbPGetDatum(schema), schema == nullptr),
                       pg::Int4(options.schema != nullptr ? 1 : 0), pg::Text(identity)});
    });
    NoteChannelChange();
}

void DropChannel(const char *name, bool if_exists, bool force) {
    LockedChannel locked;
    if (!LockChannel(name, &locked)) {
        if (!if_exists) ReportUndeclared(name);
        ereport(NOTICE, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("channel \"%s\" is not declared, skipping", name)));
        return;
    }
    const Channel &channel = locked.channel;
    RequireChannelOwner(channel);
    if (!force) {
        RequireNoDependents(channel, "drop", "Unsubscribe first, or drop all of it with force => true.");
        RequireNoFeeds(channel);
    }

    pg::AsOwner([&] {
        std::array id{pg::Int4(channel.id)};
        // The subscriptions first: that waits for workers that are about to park a task of theirs.
        pg::SpiRun("DELETE FROM herald_internal.subscription_store WHERE channel_id = $1", id);
        pg::SpiRun("DELETE FROM herald_internal.parked_store WHERE channel_id = $1", id);
        pg::SpiRun("DELETE FROM herald_internal.dead_letter_store WHERE channel_id = $1", id);
        pg::SpiRun("DELETE FROM herald_internal.channel_grant_store WHERE channel_id = $1", id);
        pg::SpiRun("DELETE FROM herald_internal.channel_store WHERE id = $1", id);
        // Or they would be for everybody, as those of undeclared channels are.
        pg::SpiRun("DELETE FROM herald_internal.pointer_store WHERE channel = $1", std::array{pg::Text(name)});
    });
    RemoveChannelCountersAtCommit(MyDatabaseId, name);
    NoteChannelChange();
}

int32 DeclareForSubscription(const char *name) {
    Channel channel{};
    channel.durable = true;
    // As before: LISTENers of the undeclared channel got payloads.
    channel.announce = AnnounceMode::kPayload;
    channel.validation = Validation::kReject;

    RequireCreate(name);
    const bool others = IsUsedByOthers(name);
    const Oid owner = others ? OwnerOfDatabase() : GetUserId();
    int32 id = InsertChannel(name, channel, owner, nullptr, nullptr);
    if (id == 0) {
        // Someone was faster: the channel is theirs, and so is the right to subscribe.
        LockedChannel locked;
        if (!LockChannel(name, &locked)) ReportUndeclared(name);
        const Channel &other = locked.channel;
        if (!other.durable || (PrivilegesOf(other.id, other.owner, GetUserId()) & kPrivilegeSubscribe) == 0)
            ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                            errmsg("permission denied to subscribe to channel \"%s\"", name),
                            errdetail("It was declared by another session at the same time.")));
        return other.id;
    }
    AddGrant(id, "public", InvalidOid, kPrivilegePublish);
    if (others) {
        AddGrant(id, GetUserNameFromId(GetUserId(), false), GetUserId(), kPrivilegeSubscribe | kPrivilegeRead);
        ereport(NOTICE, (errcode(ERRCODE_SUCCESSFUL_COMPLETION),
                         errmsg("channel \"%s\" is used by others: it belongs to the owner of the database, \"%s\"",
                                name, GetUserNameFromId(owner, false))));
    }
    NoteChannelChange();
    // The name may be a mistake, in its letters or in the order of the arguments.
    ereport(NOTICE, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("channel \"%s\" is new", name),
                     errdetail("Nobody had declared it: now it is durable, owned by role \"%s\", and everybody may "
                               "publish to it.",
                               GetUserNameFromId(GetUserId(), false))));
    return id;
}

}  // namespace herald
