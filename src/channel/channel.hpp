// Channels as publishers see them, cached per backend: the publish path must not read a catalog for
// each message. An undeclared channel is ephemeral and open to all; it is cached like the others, and
// so is what the current role may do.
//
// The cache is forgotten when channels or grants change (in any session) and when roles change. An
// entry stays valid until the next look-up: copy what must live longer.

#pragma once

#include "pg/pg.hpp"
#include "schema/schema_handle.hpp"

namespace herald {

// What LISTENers of a channel get. Stored in outbox entries: keep the values.
enum class AnnounceMode : uint8 {
    kOff = 0,
    kPayload,
    kPointer,  // {"herald": {"message_id": ..., "bytes": ...}}
};

// What happens at herald.max_log_size.
enum class WhenFull : uint8 {
    kRefuse = 0,   // publishers get an error
    kDeadLetters,  // what leaves the log without having been handled becomes a dead letter
};

// What becomes of a payload that does not fit the channel's JSON Schema.
enum class Validation : uint8 {
    kOff = 0,  // nobody looks
    kWarn,     // published, with a WARNING
    kReject,
};

enum ChannelPrivilege : uint8 {
    kPrivilegePublish = 1 << 0,
    kPrivilegeSubscribe = 1 << 1,
    kPrivilegeRead = 1 << 2,
};

struct Channel {
    char name[NAMEDATALEN];  // 1 to 63 bytes, as given
    int32 id;                // 0: undeclared
    bool declared;
    bool durable;
    bool accept_notify;
    AnnounceMode announce;
    WhenFull when_full;
    Validation validation;    // kOff also where there is no schema
    bool check_formats;       // the schema's "format" counts
    int32 schema_version;     // of the schema that payloads are checked against; 0: they are not
    int32 max_payload_bytes;  // 0: only herald.max_payload limits
    Oid owner;                // InvalidOid: undeclared, or the role is gone
    uint8 privileges;         // of the role `role`, a set of ChannelPrivilege; owners have all
    Oid role;                 // whose privileges these are
    mutable int counters;     // slot of channel_counters.hpp, or -1: use CountersOf
    mutable SchemaHandle compiled_schema;
};

inline bool MayPublish(const Channel &channel) { return (channel.privileges & kPrivilegePublish) != 0; }

// The slot in which to count for the channel, taken when it is first needed. Never an error.
int CountersOf(const Channel &channel);

// Refuses what is no channel name with 22004 (NULL pointer) or 22023, else does nothing.
void CheckChannelName(const char *name, std::size_t length);
// The same for an SQL argument; returns the name as a C string in the current memory context.
char *ChannelNameArgument(FunctionCallInfo fcinfo, int argument);

// The channel of that name (checked by CheckChannelName), for the current role. Needs a transaction.
const Channel &LookUpChannel(const char *name, std::size_t length);
inline const Channel &LookUpChannel(const char *name) { return LookUpChannel(name, std::strlen(name)); }
// The declared channel of that id, for the current role; NULL where it was dropped.
const Channel *LookUpChannelById(int32 id);

// 42704 with a hint.
[[noreturn]] void ReportUndeclared(const char *name);

// The privileges that `role` has on a declared channel: through ownership, membership, or PUBLIC.
// Superusers have all.
uint8 PrivilegesOf(int32 channel_id, Oid owner, Oid role);

// 42501 with a hint where the current role is neither a member of the owner nor a superuser.
void RequireChannelOwner(const Channel &channel);

// "publish" and so on; 0 for what is no privilege, or 22023.
uint8 PrivilegeOfName(const char *name);
uint8 RequirePrivilege(const char *name);
const char *NameOfPrivilege(ChannelPrivilege privilege);
const char *NameOfAnnounce(AnnounceMode mode);
AnnounceMode AnnounceOfName(const char *name);  // 22023 for what is none
const char *NameOfWhenFull(WhenFull when_full);
WhenFull WhenFullOfName(const char *name);  // 22023 for what is none
const char *NameOfValidation(Validation validation);
Validation ValidationOfName(const char *name);  // 22023 for what is none

// Registers the cache's callbacks; once per process, from _PG_init.
void InitChannelCache();

}  // namespace herald
