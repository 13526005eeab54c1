// Running fixed SQL of ours. Statements are constants, values are parameters, never text pasted in.
//
// SpiBegin/SpiEnd bracket; an ERROR in between is cleaned up by PostgreSQL. Results live in the SPI
// context until SpiEnd: copy what must stay.

#pragma once

#include "pg/pg.hpp"

extern "C" {
#include "executor/spi.h"
}

namespace herald::pg {

// One parameter of a statement: its type, its value, and whether it is NULL.
struct Param {
    Oid type;
    Datum value;
    bool is_null;
};

Param Int4(int32 value);
Param Int8(int64 value);
Param Bool(bool value);
Param ObjectId(Oid value);
Param Float8(double value);
Param Text(const char *value);  // NULL pointer: SQL NULL; copies
Param TextDatum(Datum value, bool is_null);
Param Jsonb(Datum value, bool is_null);
Param Time(TimestampTz value);  // DT_NOBEGIN: SQL NULL
Param IntervalDatum(Datum value, bool is_null);
Param Int8Array(const int64 *values, int count);

inline constexpr int kMaxParams = 24;

// SPI_connect and SPI_finish, with their impossible results turned into errors.
void SpiBegin();
void SpiEnd();

// Every statement of ours runs under a search_path that nobody else chooses: that of BecomeOwner(), or of a process without
// a role. Raises an error where it would not.
void RequireSafePath();

// Until the settings' nest level ends: statements read whole tables. The log and the settled tables have no index of
// ours; one of an administrator is not to decide what is found in them.
void ReadWithoutIndexes();

// Runs a statement; returns the number of rows processed. Raises an error where the statement could
// not be run as a plain query (TESTING: a negative code without an error is not success).
// `limit` 0: all rows. Always a fresh snapshot; results in SPI_tuptable. `plan`: where to keep the plan for
// the next call, or NULL.
template <std::size_t N>
uint64 SpiRun(const char *sql, const std::array<Param, N> &params, long limit = 0);
uint64 SpiRun(const char *sql, long limit = 0);

// True inside such a statement, for triggers on the tables of the extension.
bool InOwnStatement();

uint64 SpiRunWith(const char *sql, const Param *params, int count, long limit, SPIPlanPtr *plan);

template <std::size_t N>
uint64 SpiRun(const char *sql, const std::array<Param, N> &params, long limit) {
    static_assert(N <= kMaxParams);
    return SpiRunWith(sql, params.data(), static_cast<int>(N), limit, nullptr);
}

// A cursor for a statement of which one result would be too large; SPI_cursor_fetch and SPI_cursor_close go on with it.
Portal SpiOpenCursor(const char *sql, Param param);

// A value of a result row (column counts from 1), with its NULL flag. Error: 55000 where it is of another type.
struct Field {
    Datum value;
    bool is_null;
};
Field SpiField(uint64 row, int column, Oid type);
int32 SpiInt4(uint64 row, int column, int32 when_null = 0);
int64 SpiInt8(uint64 row, int column, int64 when_null = 0);
bool SpiBool(uint64 row, int column, bool when_null = false);
double SpiFloat8(uint64 row, int column, double when_null = 0);
char *SpiText(uint64 row, int column);  // a palloc'd C string, or NULL

}  // namespace herald::pg
