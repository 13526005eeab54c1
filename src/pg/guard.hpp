// The border between C++ exceptions and PostgreSQL's longjmp. Every function that the server calls
// runs its body in Guard(): an exception that gets there becomes an ereport, raised only after the
// handlers are left, because an ereport inside a catch block would leak the exception object.

#pragma once

#include "pg/pg.hpp"
#include "pg/preload.hpp"

namespace herald::pg {

struct CaughtException {
    int sqlstate;
    char text[256];
};

[[noreturn]] inline void ReportException(const CaughtException &caught) {
    ereport(ERROR, (errcode(caught.sqlstate), errmsg("%s", caught.text)));
    pg_unreachable();
}

template <typename Body>
auto Guard(Body &&body) -> decltype(body()) {
    CaughtException caught;
    try {
        return body();
    } catch (const std::bad_alloc &) {
        caught.sqlstate = ERRCODE_OUT_OF_MEMORY;
        std::strncpy(caught.text, "out of memory", sizeof(caught.text));
    } catch (const std::exception &error) {
        caught.sqlstate = ERRCODE_INTERNAL_ERROR;
        std::strncpy(caught.text, error.what(), sizeof(caught.text) - 1);
        caught.text[sizeof(caught.text) - 1] = '\0';
    } catch (...) {
        // glibc's thread cancellation is the only foreign exception; this server has no threads.
        caught.sqlstate = ERRCODE_INTERNAL_ERROR;
        std::strncpy(caught.text, "unknown C++ exception", sizeof(caught.text));
    }
    ReportException(caught);
}

}  // namespace herald::pg

// Defines an SQL-callable function herald_<name> whose body is guarded, and which fails where the library was loaded too late.
#define HERALD_FUNCTION(name) HERALD_FUNCTION_THAT(name, ::herald::pg::RequirePreloaded())

// The same of a trigger that does nothing then.
#define HERALD_FEED_TRIGGER(name) \
    HERALD_FUNCTION_THAT(name, if (!::herald::pg::Preloaded()) return static_cast<Datum>(0))

#define HERALD_FUNCTION_THAT(name, looks_first)                                   \
    extern "C" {                                                                  \
    PGDLLEXPORT Datum herald_##name(PG_FUNCTION_ARGS);                            \
    PG_FUNCTION_INFO_V1(herald_##name);                                           \
    }                                                                             \
    static Datum herald_##name##_body(PG_FUNCTION_ARGS);                          \
    Datum herald_##name(PG_FUNCTION_ARGS) {                                       \
        looks_first;                                                              \
        return ::herald::pg::Guard([&] { return herald_##name##_body(fcinfo); }); \
    }                                                                             \
    static Datum herald_##name##_body([[maybe_unused]] PG_FUNCTION_ARGS)
