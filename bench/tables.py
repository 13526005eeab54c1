"""Figures and tables in Markdown."""

import harness


def number(value):
    """Three digits are the most that a benchmark can be trusted for."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values):
    middle, low, high = harness.median_and_range(values)
    return f"{number(middle)} ({number(low)}–{number(high)})"


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(
        "---" if i == 0 else "--:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])
