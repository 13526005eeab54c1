// A connection of libpq that closes itself, and a result that frees itself. The server is the one
// that PGHOST and its like name. Errors are exceptions.

#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

class Result {
public:
    explicit Result(PGresult *result) : result_(result, PQclear) {}

    std::string Text(int row, int column) const { return PQgetvalue(result_.get(), row, column); }
    std::int64_t Integer(int row, int column) const { return std::stoll(Text(row, column)); }
    int Rows() const { return PQntuples(result_.get()); }
    ExecStatusType Status() const { return PQresultStatus(result_.get()); }

private:
    std::unique_ptr<PGresult, void (*)(PGresult *)> result_;
};

class Connection {
public:
    explicit Connection(const std::string &options = "") : connection_(PQconnectdb(options.c_str()), PQfinish) {
        if (PQstatus(Raw()) != CONNECTION_OK) Fail();
    }

    PGconn *Raw() const { return connection_.get(); }
    int Socket() const { return PQsocket(Raw()); }

    // One message, which may hold several statements; the result of the last one.
    Result Run(const std::string &sql) { return Check(PQexec(Raw(), sql.c_str())); }

    void Prepare(const char *name, const char *sql) { Check(PQprepare(Raw(), name, sql, 0, nullptr)); }

    Result RunPrepared(const char *name, std::initializer_list<std::string> parameters) {
        std::vector<const char *> values;
        for (const std::string &parameter : parameters) values.push_back(parameter.c_str());
        return Check(PQexecPrepared(Raw(), name, static_cast<int>(values.size()), values.data(), nullptr, nullptr, 0));
    }

    // Takes in what has arrived; false at the end of the connection.
    bool Receive() { return PQconsumeInput(Raw()) == 1; }

    // The next notification that has arrived, or NULL.
    std::unique_ptr<PGnotify, void (*)(void *)> NextNotification() { return {PQnotifies(Raw()), PQfreemem}; }

    [[noreturn]] void Fail() const { throw std::runtime_error(PQerrorMessage(Raw())); }

private:
    Result Check(PGresult *raw) {
        Result result(raw);
        if (result.Status() != PGRES_COMMAND_OK && result.Status() != PGRES_TUPLES_OK) Fail();
        return result;
    }

    std::unique_ptr<PGconn, void (*)(PGconn *)> connection_;
};

// Microseconds since 1970, of the clock that clock_timestamp() reads, too.
inline std::int64_t Now() {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace bench
