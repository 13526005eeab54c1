// See audit_mask.hpp. What is hashed must not depend on the session's settings, so times are hashed as they are
// stored, and all else as its JSON, which depends on nothing for the types that people mask.

#include "pg/pg.hpp"

#include "audit/audit_mask.hpp"

extern "C" {
#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "utils/date.h"
}

namespace herald {

namespace {

constexpr std::string_view kMarker = "***";
constexpr std::string_view kHashPrefix = "hmac:";
constexpr int kHashBytes = 16;  // of the 32 that there are

// `kind` is hashed first, as true and false, say, have no other bytes.
void ComputeHmac(const AuditTarget &target, uint32 kind, const void *data, Size length, uint8 *digest) {
    pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);
    const auto *bytes = static_cast<const uint8 *>(data);
    if (hmac == nullptr || pg_hmac_init(hmac, target.salt, static_cast<size_t>(target.salt_length)) < 0 ||
        pg_hmac_update(hmac, reinterpret_cast<const uint8 *>(&kind), sizeof(kind)) < 0 ||
        pg_hmac_update(hmac, bytes, length) < 0 || pg_hmac_final(hmac, digest, PG_SHA256_DIGEST_LENGTH) < 0)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not compute a hash")));
    pg_hmac_free(hmac);
}

void ComputeHashOf(const AuditTarget &target, const Conversion &conversion, Datum value, uint8 *digest) {
    if (conversion.kind == ConversionKind::kTimestamp || conversion.kind == ConversionKind::kTimestampTz) {
        const int64 time = DatumGetTimestamp(value);
        ComputeHmac(target, JENTRY_ISSTRING, &time, sizeof(time), digest);
        return;
    }
    // In a buffer of its own, so that nothing of where it stands gets into it.
    JsonBuffer json;
    InitJsonBuffer(&json, CurrentMemoryContext);
    ResetJsonBuffer(&json);
    const JEntry entry = AppendValue(&json, conversion, value);
    ComputeHmac(target, entry & JENTRY_TYPEMASK, json.data + VARHDRSZ, json.length - VARHDRSZ, digest);
    pfree(json.data);
}

}  // namespace

JEntry AppendMasked(JsonBuffer *buffer, const AuditTarget &target, ColumnTreatment treatment,
                    const Conversion &conversion, Datum value) {
    static constexpr char kHex[] = "0123456789abcdef";
    if (treatment != ColumnTreatment::kHashed) return AppendString(buffer, kMarker.data(), kMarker.size());

    uint8 digest[PG_SHA256_DIGEST_LENGTH];
    char text[kHashPrefix.size() + 2 * kHashBytes];
    ComputeHashOf(target, conversion, value, digest);
    std::memcpy(text, kHashPrefix.data(), kHashPrefix.size());
    for (int i = 0; i < kHashBytes; i++) {
        text[kHashPrefix.size() + 2 * i] = kHex[digest[i] >> 4];
        text[kHashPrefix.size() + 2 * i + 1] = kHex[digest[i] & 15];
    }
    return AppendString(buffer, text, sizeof(text));
}

}  // namespace herald
