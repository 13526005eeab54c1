"""The tables of bench/report about handling tasks."""

import collections
import statistics

import harness
from tables import markdown, number, spread


def tasks_table(results):
    """Of each mode, handler and disk: each queue, and pg_herald's rate by its, round by round."""
    cells = collections.defaultdict(lambda: collections.defaultdict(dict))
    for run in harness.read_table(results.folder, "tasks.csv"):
        cells[run["mode"], run["handler"], run["disk"]][run["queue"]][run["round"]] = run
    tables = []
    for (mode, handler, disk), by_queue in cells.items():
        what = {"backlog": "A backlog", "stream": "Published meanwhile"}[mode]
        does = {"nothing": "the handler does nothing", "write": "the handler inserts a row"}[handler]
        own = {key: rate_of(run) for key, run in by_queue.get("pg_herald", {}).items()}
        head, rows = ["", "tasks per commit", "messages", "a flush of the disk itself, ms"], []
        for queue, by_round in by_queue.items():
            runs = list(by_round.values())
            row = [queue, runs[-1]["commit"], f"{int(runs[-1]['messages']):,}",
                   spread([int(run["flush_us"]) / 1000 for run in runs])]
            if mode == "stream":
                row += [spread([int(run["messages"]) / float(run["published_s"]) for run in runs]),
                        spread([1000 * (float(run["handled_s"]) - float(run["published_s"])) for run in runs])]
            rows.append(row + [spread([rate_of(run) for run in runs]),
                               spread([own[key] / rate_of(run) for key, run in by_round.items() if key in own])
                               if own else ""])
        if mode == "stream":
            head += ["published per second", "last one done after the last is published, ms"]
        tables.append(f"{what}, {does}, disk {disk}:\n\n" + markdown(
            head + ["tasks per second", "pg_herald : this"], rows))
    return "\n\n".join(tables)


def rate_of(run):
    return float(run["messages"]) / float(run["handled_s"])


def milliseconds(values):
    return spread([float(value) for value in values])


def decay_table(results):
    """A line per variant: the rate in each tenth, and the last by the first."""
    variants = collections.defaultdict(lambda: collections.defaultdict(dict))
    for row in harness.read_table(results.folder, "decay.csv"):
        variants[row["variant"]][row["round"]][int(row["part"])] = float(row["messages"]) / float(row["handled_s"])
    rows = []
    for variant, rounds in variants.items():
        last = max(part for rates in rounds.values() for part in rates)
        rows.append([variant] + [number(statistics.median(rates[part] for rates in rounds.values() if part in rates))
                                 if part <= last else "stopped" for part in (1, 2, 4, 6, 8, 10)]
                    + [spread([rates[max(rates)] / rates[1] for rates in rounds.values()])])
    return markdown(["tasks per second in each tenth"] + [f"{part}." for part in (1, 2, 4, 6, 8, 10)]
                    + ["last : first"], rows)


def backlog_table(results):
    rates = collections.defaultdict(dict)
    for row in harness.read_table(results.folder, "backlog.csv"):
        rates[row["what"]].setdefault(int(row["pending"]), {})[row["round"]] = float(row["per_second"])
    rows = []
    for what, by_pending in rates.items():
        (small, few), (large, many) = sorted(by_pending.items())
        rows.append([what, f"{small:,}", spread(list(few.values())), f"{large:,}", spread(list(many.values())),
                     spread([many[key] / few[key] for key in many if key in few])])
    return markdown(["per second", "with", "", "with", "", "ratio"], rows)


def tenths_table(results):
    tenths = collections.defaultdict(list)
    for row in harness.read_table(results.folder, "tenths.csv"):
        tenths[int(row["tenth"])].append(float(row["per_second"]))
    return markdown([f"{tenth}. tenth" for tenth in sorted(tenths)],
                    [[number(statistics.median(values)) for _, values in sorted(tenths.items())]])


def memory_table(results):
    """Private memory, how much of it is above the bare worker's at the same moment, and memory contexts."""
    rows = harness.read_table(results.folder, "memory.csv")
    bare = {(row["round"], row["when"]): int(row["private_bytes"])
            for row in rows if row["process"] == "bare worker"}
    cells = collections.defaultdict(list)
    for row in rows:
        cells[row["process"], row["when"]].append(row)
    return markdown(
        ["MiB", "", "private", "above the bare worker", "memory contexts"],
        [[process, when, mebibytes(int(row["private_bytes"]) for row in found),
          "" if process == "bare worker" else
          mebibytes(int(row["private_bytes"]) - bare[row["round"], row["when"]] for row in found),
          mebibytes(int(row["context_bytes"]) for row in found if row["context_bytes"])]
         for (process, when), found in sorted(cells.items(), key=lambda cell: cell[0][0])])


def mebibytes(values):
    values = [value / 2**20 for value in values]
    return spread(values) if values else ""


def restart_table(results):
    cells = collections.defaultdict(list)
    for row in harness.read_table(results.folder, "restart.csv"):
        cells[row["log"], row["event"]].append(row)
    return markdown(
        ["log", "", "unsettled", "first task after, ms", "of that after the dispatcher's start, ms"],
        [[log, event, f"{statistics.median(int(row['unsettled']) for row in rows):,.0f}",
          milliseconds(row["to_task_ms"] for row in rows), milliseconds(row["dispatcher_to_task_ms"] for row in rows)]
         for (log, event), rows in cells.items()])


def rotation_table(results):
    cells = collections.defaultdict(list)
    for row in harness.read_table(results.folder, "rotation.csv"):
        cells[row["case"], row["transactions"]].append(row)
    return markdown(
        ["", "transactions", "their number", "turns", "emptied", "p50, ms", "p99", "p99.9", "longest"],
        [[case, kind, f"{sum(int(row['count']) for row in rows):,}",
          sum(int(row["turns"]) for row in rows), sum(int(row["emptied"]) for row in rows)]
         + [milliseconds(row[name] for row in rows) for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")]
         for (case, kind), rows in sorted(cells.items(), key=lambda cell: cell[0][0])])


def looks_table(results):
    looks = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in harness.read_table(results.folder, "looks.csv"):
        looks[row["look"]][int(row["pending"])].append(float(row["p50_us"]) / 1000)
    pending = sorted({count for by_pending in looks.values() for count in by_pending})
    return markdown(["median, ms"] + [f"{count:,} pending" for count in pending],
                    [[f"`{look}`"] + [spread(by_pending[count]) for count in pending]
                     for look, by_pending in looks.items()])


TABLES = {
    "tasks": ("tasks.csv", tasks_table), "decay": ("decay.csv", decay_table),
    "backlog": ("backlog.csv", backlog_table), "tenths": ("tenths.csv", tenths_table),
    "memory": ("memory.csv", memory_table), "restart": ("restart.csv", restart_table),
    "rotation": ("rotation.csv", rotation_table), "looks": ("looks.csv", looks_table),
}
