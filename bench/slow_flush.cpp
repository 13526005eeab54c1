// Preloaded into a server, makes each flush of a file take longer by HERALD_FLUSH_DELAY_US
// microseconds, as a slower disk does, or one at the other end of a network.

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

namespace {

using Flush = int (*)(int);

void Delay() {
    static const long microseconds = [] {
        const char *text = getenv("HERALD_FLUSH_DELAY_US");
        return text == nullptr ? 0L : atol(text);
    }();
    if (microseconds == 0) return;
    int saved = errno;
    timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += microseconds * 1000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    // A disk is not hurried by the signals that a server's processes send each other.
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
    errno = saved;
}

int FlushSlowly(const char *name, int file) {
    int result = reinterpret_cast<Flush>(dlsym(RTLD_NEXT, name))(file);
    Delay();
    return result;
}

}  // namespace

extern "C" int fdatasync(int file) { return FlushSlowly("fdatasync", file); }

extern "C" int fsync(int file) { return FlushSlowly("fsync", file); }
