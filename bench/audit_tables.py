"""The tables of what auditing costs."""

import collections
import statistics

import harness
from tables import markdown, number, spread

PEERS = {
    "statement_trigger": "PL/pgSQL statement trigger", "row_trigger": "PL/pgSQL row trigger",
    "audit_trigger": "like audit-trigger", "supa_audit": "like supa_audit",
}


def extra(folder, column):
    """(kind, operation) → variant → what it took more than the bare table, round by round."""
    rows = harness.read_table(folder, "audit.csv")
    base = {(row["kind"], row["operation"], row["round"]): float(row[column])
            for row in rows if row["variant"] == "bare"}
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in rows:
        key = row["kind"], row["operation"]
        value = float(row[column]) - (0 if row["variant"] == "bare" else base[*key, row["round"]])
        found[key][row["variant"]].append(value)
    return found


def audit_table(results):
    lines = []
    for (kind, operation), variants in extra(results.folder, "cpu_us").items():
        full, diff = variants["herald_full"], variants["herald_diff"]
        line = [kind, f"`{operation.upper()}`", spread(variants["bare"]), spread(full), spread(diff)]
        for peer in PEERS:
            ratio = statistics.median(a / b for a, b in zip(variants[peer], full))
            line.append(f"{number(statistics.median(variants[peer]))}, {number(ratio)} ×")
        lines.append(line)
    return markdown(["statements", "", "bare table, µs per row", "pg_herald `full`: more", "`diff`: more",
                     *(f"{name}: more, × `full`" for name in PEERS.values())], lines)


def audit_wal_table(results):
    lines = []
    for (kind, operation), variants in extra(results.folder, "wal_bytes").items():
        middle = {name: statistics.median(values) for name, values in variants.items()}
        lines.append([kind, f"`{operation.upper()}`"] + [f"{middle[name]:.0f}" for name in (
            "bare", "herald_full", "herald_diff", *PEERS)])
    return markdown(["statements", "", "bare table, bytes per row", "pg_herald `full`: more", "`diff`: more",
                     *(f"{name}: more" for name in PEERS.values())], lines)


def audit_width_table(results):
    found = collections.defaultdict(dict)
    for row in harness.read_table(results.folder, "audit_width.csv"):
        found[row["columns"], row["row_bytes"]][row["record"]] = float(row["wal_bytes"])
    return markdown(["columns", "bytes of a row", "`full`: more WAL, bytes per row", "`diff`", "ratio"],
                    [[columns, size, f"{wal['full']:.0f}", f"{wal['diff']:.0f}", number(wal["diff"] / wal["full"])]
                     for (columns, size), wal in found.items()])


TABLES = {"audit": ("audit.csv", audit_table), "audit_wal": ("audit.csv", audit_wal_table),
          "audit_width": ("audit_width.csv", audit_width_table)}
