// The LISTENers of a run: one that counts what it hears, and any number that hear nothing because
// they listen to another channel. Driven through standard input, a command and an answer a line:
//
//   reset PID    forgets what was heard; PID is the announcer's, to tell its notifications from others
//   report       "heard FROM_ANNOUNCER LAST", LAST being microseconds since 1970, 0: nothing heard
//
// It ends with the end of its input.

#include "connection.hpp"

#include <CLI/CLI.hpp>

#include <poll.h>
#include <unistd.h>

#include <iostream>
#include <sstream>

namespace {

struct Heard {
    int announcer = 0;
    std::int64_t count = 0;
    std::int64_t from_announcer = 0;
    std::int64_t last = 0;
};

void TakeNotifications(bench::Connection &connection, Heard &heard) {
    if (!connection.Receive()) connection.Fail();
    while (auto notification = connection.NextNotification()) {
        heard.count++;
        if (notification->be_pid == heard.announcer) heard.from_announcer++;
        heard.last = bench::Now();
    }
}

void Answer(const std::string &command, Heard &heard) {
    std::istringstream words(command);
    std::string verb;
    words >> verb;
    if (verb == "reset") {
        heard = Heard{};
        words >> heard.announcer;
    }
    std::cout << heard.count << ' ' << heard.from_announcer << ' ' << heard.last << std::endl;
}

void Serve(bench::Connection &connection) {
    Heard heard;
    std::string input;
    pollfd sources[] = {{STDIN_FILENO, POLLIN, 0}, {connection.Socket(), POLLIN, 0}};
    for (;;) {
        if (poll(sources, 2, -1) < 0 && errno != EINTR) throw std::runtime_error("poll failed");
        if (sources[1].revents != 0) TakeNotifications(connection, heard);
        if (sources[0].revents == 0) continue;
        char buffer[256];
        ssize_t bytes = read(STDIN_FILENO, buffer, sizeof buffer);
        if (bytes <= 0) return;
        input.append(buffer, static_cast<std::size_t>(bytes));
        for (std::size_t end; (end = input.find('\n')) != std::string::npos;) {
            Answer(input.substr(0, end), heard);
            input.erase(0, end + 1);
        }
    }
}

}  // namespace

int main(int argc, char **argv) {
    CLI::App app("LISTENers of a benchmark");
    std::string channel = "bench";
    int idle = 0;
    app.add_option("--channel", channel, "the channel that is listened to");
    app.add_option("--idle", idle, "how many more listen to another channel");
    CLI11_PARSE(app, argc, argv);

    try {
        std::vector<bench::Connection> others;
        for (int i = 0; i < idle; i++) {
            others.emplace_back("application_name=bench_idle");
            others.back().Run("LISTEN elsewhere");
        }
        bench::Connection connection("application_name=bench_listener");
        connection.Run("LISTEN " + channel);
        std::cout << "ready" << std::endl;
        Serve(connection);
    } catch (const std::exception &error) {
        std::cerr << "listeners: " << error.what() << std::endl;
        return 1;
    }
    return 0;
}
