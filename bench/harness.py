"""What the benchmarks have in common: a private server of their own, the programs that help them,
and result files.

A benchmark runs itself a second time beside a server that scripts/server starts and takes away.
That server flushes to the disk, as the one of the tests does not. Nothing is installed into the
system but packages, by scripts/setup; no TCP port is opened.
"""

import argparse
import csv
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("HERALD_BUILD", os.path.join(TOP, "build")))
PROGRAMS = os.path.join(BUILD, "bench_programs")
SERVER_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_sync_method": "fdatasync",
    "shared_buffers": "1GB",
    # No checkpoint in the middle of a run: it would hit one variant only.
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "max_connections": "700",
}
# Set for the run beside a server: which disk it is on.
INSIDE = "HERALD_BENCH_INSIDE"
DELAY = "HERALD_FLUSH_DELAY_US"


def say(text):
    print(f"== {text}", flush=True)


def fail(text):
    sys.exit(f"pg_herald: {text}")


def arguments(description, words=None, **numbers):
    """Parses the command line; each number is name=(full, quick, help), each word name: help."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a short trial, whose figures mean little")
    parser.add_argument("--out", default=os.path.join(BUILD, "bench"),
                        help="folder for the result files, default build/bench")
    for name, text in (words or {}).items():
        parser.add_argument(f"--{name}", help=text)
    for name, (full, quick, text) in numbers.items():
        parser.add_argument(f"--{name}", type=int, help=f"{text}, default {full} ({quick})")
    options = parser.parse_args()
    for name, (full, quick, _) in numbers.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    options.out = os.path.abspath(options.out)
    os.makedirs(options.out, exist_ok=True)
    return options


def inside():
    """The disk's name where this process runs beside a server, else None."""
    return os.environ.get(INSIDE)


def run_beside_servers(disks, options, settings=(), preload=None):
    """Runs this script again beside a server for each disk: (name, milliseconds added to a flush).
    `preload` is a library of bench/ that the server loads besides the extension."""
    began = time.time()
    subprocess.run([f"{TOP}/scripts/setup", "bench"], check=True)
    build_programs()
    # Where the server's user can read it, which may not be true of the build.
    with tempfile.TemporaryDirectory(prefix="pg_herald_bench.") as folder:
        os.chmod(folder, 0o755)
        library = shutil.copy(program("slow_flush.so"), folder)
        settings = {**SERVER_SETTINGS, **dict(settings)}
        if preload:
            settings["shared_preload_libraries"] = "pg_herald," + shutil.copy(program(preload), folder)
        for name, delay in disks:
            environment = dict(os.environ, **{INSIDE: name})
            if delay:
                environment.update({"LD_PRELOAD": library, DELAY: str(delay * 1000)})
            command = [f"{TOP}/scripts/server"]
            for key, value in settings.items():
                command += ["-o", f"{key}={value}"]
            say(f"a server with disk: {name}")
            run_to_its_end(command + [os.path.abspath(sys.argv[0])] + sys.argv[1:], environment)
    note_run(options, (time.time() - began) / 60)
    say(f"results are in {options.out}")


def note_run(options, minutes):
    """runs.csv has a line per script: when, of which commit, how long, with which options."""
    script = os.path.basename(sys.argv[0])
    runs = [row for row in read_table(options.out, "runs.csv") if row["script"] != script]
    table = Table(options.out, "runs.csv", ["script", "day", "commit", "minutes", "options"], True)
    for row in runs:
        table.add(*row.values())
    chosen = ", ".join(f"{name} {value}" for name, value in vars(options).items()
                       if value is not None and name not in ("out", "quick"))
    table.add(script, time.strftime("%Y-%m-%d"), commit_name(), f"{minutes:.1f}",
              ("a quick trial: " if options.quick else "") + chosen)


def commit_name():
    return subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty", "--exclude=*"],
                          capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def run_to_its_end(command, environment):
    """Runs it as a group of processes of its own, which is told to end as a whole."""
    child = subprocess.Popen(["setpriv", "--pdeathsig", "TERM"] + command, env=environment,
                             stdin=subprocess.DEVNULL, start_new_session=True)
    stopped = []

    def hand_on(_number, _frame):
        if not stopped:
            stopped.append(True)
            os.killpg(child.pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)
    status = child.wait()
    if stopped:
        fail("stopped")
    if status != 0:
        sys.exit(1)


def enter():
    """First thing beside the server: nothing that is started here gets the slow flush, and a signal
    is an exception, so that what was started is ended. Returns what brings the slow flush back."""
    preload = os.environ.pop("LD_PRELOAD", None)
    # This process has the library already: without a delay it does nothing.
    delay = os.environ.pop(DELAY, "")

    def stop(_number, _frame):
        sys.exit(1)

    signal.signal(signal.SIGTERM, stop)
    return {"LD_PRELOAD": preload, DELAY: delay} if preload else {}


def build_programs():
    subprocess.run(["make", "--no-print-directory", "-s", "-f", f"{TOP}/Makefile", "bench-programs",
                    f"bench_dir={PROGRAMS}"], check=True)


def program(name):
    return os.path.join(PROGRAMS, name)


def start(command, **options):
    """A child that ends when this process does."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM"] + command, text=True, **options)


def connect(name="bench"):
    import psycopg  # scripts/setup may have to install it first
    # Nothing here takes as long as that; a benchmark that hangs has to end.
    return psycopg.connect(f"application_name={name} options='-c statement_timeout=5min'", autocommit=True)


def wait_until(what, condition, seconds=60, pause=0.05):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            fail(f"waited in vain for {what}")
        time.sleep(pause)


def pid_of(connection, kind):
    row = connection.execute(
        "SELECT pid FROM herald.workers WHERE kind = %s AND database = current_database()",
        [kind]).fetchone()
    return row and row[0]


def create_extension(connection):
    connection.execute("CREATE EXTENSION pg_herald")
    for kind in ("dispatcher", "announcer"):
        wait_until(f"the {kind}", lambda: pid_of(connection, kind))


def cpu_seconds(pid):
    """What a process has had of the processors, in seconds."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


def idle_seconds():
    """What all processors have idled, in seconds."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def measure_flush(slowness):
    """Microseconds of an fdatasync as pg_test_fsync sees it, in the server's directory. `slowness`
    is what enter() returned."""
    tool = shutil.which("pg_test_fsync")
    if tool is None:
        return None
    environment = dict(os.environ, **slowness)
    child = start(["stdbuf", "-oL", tool, "-s", "2", "-f", os.path.join(os.environ["PGHOST"], "flush")],
                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    try:
        for line in child.stdout:
            found = re.match(r"\s+fdatasync\s.*\s(\d+) usecs/op", line)
            if found:
                return int(found[1])
        return None
    finally:
        # The first answer is all that is wanted of it.
        child.terminate()
        child.wait()


def sample_flush(seconds=0.3):
    """Microseconds of an fdatasync at this moment, the median: disks have moods."""
    path = os.path.join(os.environ["PGHOST"], "flush")
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        times = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            os.pwrite(file, b"x" * 8192, 0)
            began = time.monotonic()
            os.fdatasync(file)
            times.append(time.monotonic() - began)
        return statistics.median(times) * 1e6
    finally:
        os.close(file)
        os.unlink(path)


def first_line(pattern, path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            found = re.match(pattern, line)
            if found:
                return found[1].strip()
    return "unknown"


def describe_machine(connection):
    """What a reader of the figures has to know."""
    version = connection.execute("SELECT extension FROM herald.version()").fetchone()[0]
    return {
        "processor": first_line(r"model name\s*:(.*)", "/proc/cpuinfo"),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": first_line(r'PRETTY_NAME="(.*)"', "/etc/os-release"),
        "kernel": platform.release(),
        "postgresql": connection.execute("SHOW server_version").fetchone()[0].split()[0],
        "pg_herald": version,
        "commit": commit_name(),
        "day": time.strftime("%Y-%m-%d"),
        **{key: connection.execute(f"SHOW {key}").fetchone()[0] for key in SERVER_SETTINGS},
    }


class Table:
    """A result file. A run beside a second server adds to what the first one wrote."""

    def __init__(self, folder, name, columns, is_first):
        self.file = open(os.path.join(folder, name), "w" if is_first else "a", newline="",
                         encoding="utf-8")
        self.writer = csv.writer(self.file)
        if is_first:
            self.writer.writerow(columns)

    def add(self, *row):
        self.writer.writerow(row)
        self.file.flush()


def read_table(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def median_and_range(values):
    return statistics.median(values), min(values), max(values)


def percentile(values, percent):
    """The value that this many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
