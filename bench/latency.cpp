// Measures on one machine, with one clock, how long it takes from the moment at which a publisher has
// its COMMIT until somebody else has the message. The times may be negative: who is woken by the
// commit may be faster than the answer to the publisher.
//
//   listen    until a LISTENing connection has the notification
//   handler   until the handler of a subscription starts, in a worker that waits for work
//   cold      the same, where no worker is there yet
//
// Prints a line per message: "case,microseconds from the commit,microseconds from the call".

#include "connection.hpp"

#include <CLI/CLI.hpp>

#include <poll.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <thread>

namespace {

using bench::Connection;
using bench::Now;

struct Published {
    std::int64_t called;
    std::int64_t returned;
};

// Calls `publish` `count` times, at random intervals of 1 / rate on average, so that nothing gets
// into step with them.
void Pace(int count, double rate, std::mt19937 &random, const std::function<void(int)> &publish) {
    std::uniform_real_distribution<double> factor(0.5, 1.5);
    auto next = std::chrono::steady_clock::now();
    for (int i = 0; i < count; i++) {
        next += std::chrono::microseconds(static_cast<std::int64_t>(1e6 / rate * factor(random)));
        std::this_thread::sleep_until(next);
        publish(i);
    }
}

template <typename Condition>
void WaitFor(int seconds, const char *what, Condition condition) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline)
            throw std::runtime_error(std::string("waited in vain for ") + what);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

// Notes when a notification came, by its payload.
class Listener {
public:
    explicit Listener(const std::string &channel) : connection_("application_name=bench_listener") {
        connection_.Run("LISTEN " + channel);
        thread_ = std::thread([this] { Listen(); });
    }

    ~Listener() {
        stop_ = true;
        thread_.join();
    }

    std::size_t Count() {
        std::lock_guard guard(mutex_);
        return arrived_.size();
    }

    // After the last one has come.
    const std::map<std::string, std::int64_t> &Arrived() const { return arrived_; }

private:
    void Listen() {
        pollfd source = {connection_.Socket(), POLLIN, 0};
        while (!stop_) {
            if (poll(&source, 1, 100) <= 0) continue;
            if (!connection_.Receive()) return;  // whoever waits for the rest gives up
            while (auto notification = connection_.NextNotification()) {
                std::int64_t now = Now();
                std::lock_guard guard(mutex_);
                arrived_.emplace(notification->extra, now);
            }
        }
    }

    Connection connection_;
    std::mutex mutex_;
    std::map<std::string, std::int64_t> arrived_;
    std::atomic<bool> stop_ = false;
    std::thread thread_;
};

struct Case {
    const char *name;
    const char *before;
    const char *after;
};

// What comes between `before` and `after` is a number that makes each message another one.
constexpr Case kCases[] = {
    {"pg_notify", "SELECT pg_notify('bench', '", "')"},
    {"herald.notify", "SELECT herald.notify('bench', '", "')"},
    {"herald.publish", "SELECT herald.publish('bench', '", "')"},
    {"insert + pg_notify", "BEGIN; INSERT INTO bench.plain (payload) VALUES ('{}'); SELECT pg_notify('bench', '",
     "'); COMMIT"},
    {"insert + herald.notify",
     "BEGIN; INSERT INTO bench.plain (payload) VALUES ('{}'); SELECT herald.notify('bench', '", "'); COMMIT"},
    {"insert + herald.publish",
     "BEGIN; INSERT INTO bench.plain (payload) VALUES ('{}'); SELECT herald.publish('bench', '", "'); COMMIT"},
};

// The cases take turns, a block of messages each, so that all meet the same moods of the machine.
void MeasureListen(int messages, double rate) {
    constexpr int kBlock = 100;
    Connection publisher("application_name=bench_publisher");
    Listener listener("bench");
    std::map<std::string, std::pair<const Case *, Published>> published;
    std::mt19937 random(1);
    std::int64_t number = 0;

    for (int done = 0; done < messages; done += kBlock) {
        for (const Case &a_case : kCases) {
            Pace(std::min(kBlock, messages - done), rate, random, [&](int) {
                std::string text = std::to_string(++number);
                std::int64_t called = Now();
                publisher.Run(a_case.before + text + a_case.after);
                published[text] = {&a_case, {called, Now()}};
            });
        }
    }
    WaitFor(30, "the last notification", [&] { return listener.Count() >= published.size(); });
    for (const auto &[text, arrived] : listener.Arrived()) {
        const auto &[a_case, times] = published.at(text);
        std::printf("%s,%lld,%lld\n", a_case->name, static_cast<long long>(arrived - times.returned),
                    static_cast<long long>(arrived - times.called));
    }
}

// The handler's start by its own clock, from the table into which it writes that.
void PrintStarts(Connection &connection, const char *name, const std::map<std::int64_t, Published> &published) {
    bench::Result starts =
        connection.Run("SELECT message_id, (extract(epoch FROM started_at) * 1000000)::bigint FROM bench.started");
    if (starts.Rows() != static_cast<int>(published.size()))
        throw std::runtime_error("there are other starts than messages");
    for (int row = 0; row < starts.Rows(); row++) {
        const Published &times = published.at(starts.Integer(row, 0));
        std::int64_t started = starts.Integer(row, 1);
        std::printf("%s,%lld,%lld\n", name, static_cast<long long>(started - times.returned),
                    static_cast<long long>(started - times.called));
    }
    connection.Run("TRUNCATE bench.started");
}

void PublishTask(Connection &connection, std::map<std::int64_t, Published> &published) {
    std::int64_t called = Now();
    bench::Result result = connection.RunPrepared("publish", {"{\"n\": 1}"});
    std::int64_t returned = Now();
    published[result.Integer(0, 0)] = {called, returned};
}

void WaitForHandlers(Connection &connection, std::size_t count) {
    WaitFor(60, "the handler", [&] {
        return connection.Run("SELECT count(*) FROM bench.started").Integer(0, 0) >= static_cast<std::int64_t>(count);
    });
}

void MeasureHandler(int messages, double rate) {
    constexpr int kWarmUp = 20;
    Connection connection("application_name=bench_publisher");
    std::map<std::int64_t, Published> published;
    std::mt19937 random(1);
    connection.Prepare("publish", "SELECT herald.publish('bench_tasks', $1::jsonb)");

    Pace(kWarmUp, rate, random, [&](int) { PublishTask(connection, published); });
    WaitForHandlers(connection, kWarmUp);
    connection.Run("TRUNCATE bench.started");
    published.clear();
    Pace(messages, rate, random, [&](int) { PublishTask(connection, published); });
    WaitForHandlers(connection, published.size());
    PrintStarts(connection, "handler", published);
}

void MeasureCold(int messages) {
    Connection connection("application_name=bench_publisher");
    std::map<std::int64_t, Published> published;
    connection.Prepare("publish", "SELECT herald.publish('bench_tasks', $1::jsonb)");
    for (int i = 0; i < messages; i++) {
        WaitFor(60, "the workers to leave", [&] {
            return connection.Run("SELECT count(*) FROM herald.workers WHERE kind = 'worker'").Integer(0, 0) == 0;
        });
        PublishTask(connection, published);
        WaitForHandlers(connection, published.size());
    }
    PrintStarts(connection, "cold handler", published);
}

}  // namespace

int main(int argc, char **argv) {
    CLI::App app("How long a message takes");
    int messages = 2000;
    double rate = 200;
    app.require_subcommand(1);
    auto add = [&](const char *name, const char *text) {
        CLI::App *command = app.add_subcommand(name, text);
        command->add_option("--messages", messages, "how many, of each case")->check(CLI::PositiveNumber);
        command->add_option("--rate", rate, "messages per second")->check(CLI::PositiveNumber);
        return command;
    };
    CLI::App *listen = add("listen", "until a LISTENer has it");
    CLI::App *handler = add("handler", "until a handler starts");
    add("cold", "until a handler starts, without a worker; rate does not matter");
    CLI11_PARSE(app, argc, argv);

    try {
        if (listen->parsed())
            MeasureListen(messages, rate);
        else if (handler->parsed())
            MeasureHandler(messages, rate);
        else
            MeasureCold(messages);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "latency: %s\n", error.what());
        return 1;
    }
    return 0;
}
