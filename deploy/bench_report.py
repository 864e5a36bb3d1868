"""What a benchmark found, as a table for the terminal and as a plot (`python deploy/bench_report.py IN.json OUT.png`).

Rates are of the median run by streaming time. Ratios are rowback's rate over the other's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

# Set, contender, the factor that rowback is to reach against it.
TARGETS = (
    ("bulk", "mysqlbinlog -vv", 5.0),
    ("bulk", "raw fetch", 0.35),
    ("oltp", "mysql-replication", 80.0),
    ("oltp", "mysqlbinlog -vv", 4.0),
)
MAX_RSS_BYTES = 700_000_000
MAX_BYTES_PER_CHANGE = 100
_COLOURS = {
    "raw fetch": "#9aa5b1", "mysqlbinlog --raw": "#c3cad2", "mysqlbinlog -vv": "#e0a458", "mysql-replication": "#c8553d",
    "rowback": "#2a6f77",
}  # fmt: skip


def summary(report: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Per set and contender: the median run's figures and rates."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, one in report["sets"].items():
        found[name] = {tool: _figures(runs) for tool, runs in one["runs"].items()}
    return found


def _figures(runs: list[dict[str, Any]]) -> dict[str, float]:
    middle = median(run["seconds"] for run in runs)
    run = min(runs, key=lambda r: abs(r["seconds"] - middle))
    seconds = max(run["seconds"], 1e-9)
    return {
        **{key: value for key, value in run.items() if key != "tool"},
        "rows_per_s": run["rows"] / seconds,
        "transactions_per_s": run["transactions"] / seconds,
        "mb_per_s": run["size_bytes"] / 1e6 / seconds,
        "fastest_s": min(r["seconds"] for r in runs),
        "slowest_s": max(r["seconds"] for r in runs),
        "peak_rss_bytes": max(r["peak_rss_bytes"] for r in runs),
        "bytes_per_change": run["disk_bytes"] / run["rows"] if run["rows"] else 0.0,
    }


def text(report: dict[str, Any]) -> str:
    """The tables and the targets, for a terminal."""
    lines = [f"machine: {report['machine']}", f"MySQL {report['mysql']}, Python {report['python']}, {_wire(report)}"]
    figures = summary(report)
    for name, one in report["sets"].items():
        title = f"{name}: {one['size_bytes'] / 1e6:,.0f} MB of binlog, {one['row_changes']:,} row changes"
        lines += ["", f"{title} ({one['row_images']:,} images), {one['transactions']:,} transactions", _HEADER]
        lines += [_line(tool, f, figures[name].get("rowback")) for tool, f in figures[name].items()]
        lines += _notes(one, figures[name])
    return "\n".join([*lines, "", *_targets(figures)])


def _wire(report: dict[str, Any]) -> str:
    return f"loopback {'with' if report['tls'] else 'without'} TLS, load {report['load_before']:.1f} before"


_HEADER = (
    f"{'':18} {'seconds':>8} {'rows/s':>10} {'trx/s':>9} {'MB/s':>7} {'CPU s':>7} {'RSS MB':>7} {'B/change':>9} "
    f"{'rowback is':>11}"
)


def _line(tool: str, f: dict[str, float], ours: dict[str, float] | None) -> str:
    rss = f"{'<' if _hidden(f) else ''}{f['peak_rss_bytes'] / 1e6:.0f}"
    disk = f"{f['bytes_per_change']:.1f}" if f["disk_bytes"] else ""
    ratio = f"{ours['rows_per_s'] / f['rows_per_s']:.2f}x" if ours and tool != "rowback" else ""
    return (
        f"{tool:18} {f['seconds']:8.2f} {f['rows_per_s']:10,.0f} {f['transactions_per_s']:9,.0f} {f['mb_per_s']:7.1f} "
        f"{f['cpu_s']:7.2f} {rss:>7} {disk:>9} {ratio:>11}"
    )


def _hidden(f: dict[str, float]) -> bool:
    """Whether the contender took no more memory than the benchmark itself (see bench_measure)."""
    return f["peak_rss_bytes"] <= f["rss_floor_bytes"]


def _notes(one: dict[str, Any], figures: dict[str, dict[str, float]]) -> list[str]:
    notes = []
    if partial := figures.get("mysql-replication"):
        whole = partial["seconds"] / partial["part"]
        notes.append(
            f"  mysql-replication saw the first {partial['part']:.1%} of the changes; all would take about {whole:,.0f} s"
        )
    if ours := figures.get("rowback"):
        check, rounds = one["check"], len(one["runs"]["rowback"])
        right = "yes" if not check["different"] else f"NO: {check['different']}"
        notes.append(
            f"  rowback: before that {ours['startup_s']:.2f} s of start-up; from start to exit {ours['wall_s']:.2f} s"
        )
        notes.append(
            f"  {rounds} rounds, {ours['fastest_s']:.2f} to {ours['slowest_s']:.2f} s; {ours['commits']:.0f} commits"
        )
        notes.append(
            f"  archive: {ours['disk_bytes'] / 1e6:.1f} MB in all, {check['changes_bytes'] / 1e6:.1f} MB of changes in "
            f"{check['segments']} segments, {check['transactions_bytes'] / 1e6:.1f} MB of transactions"
        )
        notes.append(f"  counts and final rows as the server said: {right}")
    return notes


def _targets(figures: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    lines = ["targets"]
    for name, tool, factor in TARGETS:
        if tool in figures.get(name, {}) and "rowback" in figures[name]:
            ratio = figures[name]["rowback"]["rows_per_s"] / figures[name][tool]["rows_per_s"]
            lines.append(f"  {_mark(ratio >= factor)} {name} at least {factor:g}x {tool}: {ratio:.2f}x")
    for name, tools in figures.items():
        if "rowback" in tools:
            peak = tools["rowback"]["peak_rss_bytes"]
            limit = f"{name} RSS under {MAX_RSS_BYTES / 1e6:.0f} MB"
            lines.append(f"  {_mark(peak < MAX_RSS_BYTES)} {limit}: {peak / 1e6:.0f} MB")
    if "rowback" in figures.get("bulk", {}):
        size = figures["bulk"]["rowback"]["bytes_per_change"]
        limit = f"bulk at most {MAX_BYTES_PER_CHANGE} bytes per change"
        lines.append(f"  {_mark(size <= MAX_BYTES_PER_CHANGE)} {limit}: {size:.1f}")
    return lines


def _mark(reached: bool) -> str:
    return "reached " if reached else "MISSED  "


def plot(report: dict[str, Any], path: Path) -> None:
    """Rates as bars, one row of panels a set: rows/s (log scale), CPU seconds, peak RSS."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figures = summary(report)
    panels = (
        ("rows_per_s", "row changes per second (log)", 1.0),
        ("cpu_s", "CPU seconds per million row changes", None),
        ("peak_rss_bytes", "peak resident memory, MB", 1e-6),
    )
    fig, axes = plt.subplots(len(figures), len(panels), figsize=(14, 3.1 * len(figures)), squeeze=False)
    for row, (name, tools) in zip(axes, figures.items(), strict=True):
        one = report["sets"][name]
        for axis, (key, title, factor) in zip(row, panels, strict=True):
            names = list(tools)[::-1]
            values = [
                tools[t][key] * factor if factor is not None else tools[t][key] / tools[t]["rows"] * 1e6 for t in names
            ]
            bars = axis.barh(names, values, color=[_COLOURS.get(t, "#777777") for t in names])
            below = ["<" if key == "peak_rss_bytes" and _hidden(tools[t]) else "" for t in names]
            labels = [mark + _short(v) for mark, v in zip(below, values, strict=True)]
            axis.bar_label(bars, labels, padding=4, fontsize=9)
            axis.set_xscale("log" if key == "rows_per_s" else "linear")
            axis.set_xlim(right=max(values) * (6 if key == "rows_per_s" else 1.22))
            axis.set_title(f"{name}: {title}", fontsize=10, loc="left")
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=9)
        row[0].set_xlabel(
            f"{one['size_bytes'] / 1e6:,.0f} MB, {one['row_changes']:,} changes, {one['transactions']:,} transactions",
            fontsize=9,
        )
    fig.suptitle(f"rowback capture, socket to committed archive · {report['machine']}", fontsize=11, x=0.01, ha="left")
    fig.tight_layout()
    fig.savefig(path, dpi=110)


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    if value >= 1e4:
        return f"{value / 1e3:,.0f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
