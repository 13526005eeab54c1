// The columns of the log's segments, in the order of the script.

#pragma once

#include "pg/pg.hpp"

namespace herald {

enum LogColumn : AttrNumber {
    kLogId = 1,
    kLogPublishedAt,
    kLogChannelId,
    kLogPublishedBy,
    kLogKey,
    kLogHeaders,
    kLogPayload,
    kLogSchemaVersion,
};
inline constexpr int kLogColumns = 8;

}  // namespace herald
