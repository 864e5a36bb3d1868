"""Results as text for people. Each function takes a result of recovery.operations and prints it; nothing else.

The modules of the results are named for the types alone: what is printed exists, and what isn't needs no import.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from recovery.checks import Check, Verdict
from recovery.cli_options import duration, size, stdout
from recovery.plain import iso

if TYPE_CHECKING:
    from recovery.doctor import Report
    from recovery.restore import RestoreResult
    from recovery.snapshot.request import SnapshotResult
    from recovery.status import Point, Process, Status

_STYLES = {Verdict.OK: "green", Verdict.FAIL: "bold red", Verdict.ADVICE: "yellow", Verdict.SKIPPED: "dim"}


def status(result: Status) -> None:
    out = stdout()
    facts = Table.grid(padding=(0, 2))
    facts.add_row("server", escape(f"{result.server} ({result.source or 'nothing captured yet'})"))
    facts.add_row("archive", escape(f"{result.archive}, tenant {result.tenant}, log version {result.log_version}"))
    facts.add_row("coverage from", escape(_point(result.coverage_from)))
    facts.add_row("coverage to", escape(_point(result.coverage_to)))
    for label, point in (("GTIDs from", result.coverage_from), ("GTIDs to", result.coverage_to)):
        if point and point.gtid_set:
            facts.add_row(label, escape(point.gtid_set))
    if result.lag_s is not None:
        facts.add_row("lag", _lag(result))
    if result.last_commit_age_s is not None:
        facts.add_row("last commit", f"{duration(result.last_commit_age_s)} ago")
    if result.spooled is not None:
        held = f"{result.spooled.windows} windows ({size(result.spooled.size_bytes)}) in {result.spooled.folder}"
        facts.add_row("spool", escape(f"{held}, not yet safe"))
    if result.pending_xa:
        oldest = result.pending_xa[0]
        more = f"{len(result.pending_xa)} prepared, the oldest {oldest.xid} by transaction {oldest.seq}"
        facts.add_row("XA", escape(f"{more}; their rows appear when they commit"))
    if result.process is not None:
        facts.add_row("capture", escape(_process(result.process)))
    window = result.last_window
    if window:
        text = f"{window.transactions} transactions, {window.row_changes} row changes, {size(window.size_bytes)}"
        facts.add_row("last window", f"{text}, to {iso(window.to)}")
    counts = f"{result.transactions} transactions, {result.row_changes} row changes of {result.tables} tables"
    facts.add_row("holds", f"{counts}, {result.segments} segments, {size(result.size_bytes)}")
    if result.ddl_statements:
        facts.add_row("DDL", f"{result.ddl_statements} statements")
    facts.add_row("generation", str(result.generation))
    if result.rates is not None:
        per_s = (
            f"{result.rates.transactions_per_s:.3g} transactions/s, {result.rates.row_changes_per_s:.3g} row changes/s"
        )
        facts.add_row("rate", f"{per_s}, mean of the last {duration(result.rates.seconds)} covered")
    out.print(facts)
    _snapshots(result)
    if result.snapshot_needed and result.snapshots:
        out.print(f"[bold red]SNAPSHOT NEEDED[/] {escape(result.snapshot_needed)}: take one with `rowback snapshot`")
    for failover in result.failovers:
        servers = f"from {failover.from_server_uuid} to {failover.server_uuid} after transaction {failover.after_seq}"
        out.print(f"[dim]failover[/] {escape(f'{servers}, proved by {failover.gtid} ({failover.proof})')}")
    for gap in result.gaps:
        end = gap.to_position or "an end not yet known"
        if gap.closed:
            out.print(
                f"[dim]stopped[/] {escape(f'at {gap.from_position} for a while, nothing is missing: {gap.reason}')}"
            )
            continue
        out.print(f"[bold red]GAP[/] {escape(f'{gap.from_position} to {end}: {gap.reason}')}")


def _point(point: Point | None) -> str:
    return "-" if point is None else f"{iso(point.at)}  {point.file}:{point.position}  transaction {point.seq}"


def _lag(result: Status) -> str:
    text = duration(result.lag_s or 0)
    if result.live and result.live.bytes_behind is not None:
        return f"{text}, {size(result.live.bytes_behind)} of binlog not yet captured"
    if result.live:
        return f"{text}; the server no longer has the binlog file that capture needs next"
    return escape(f"{text} (server not asked: {result.live_problem})" if result.live_problem else text)


def _process(process: Process) -> str:
    text = process.state + (f" ({process.reason})" if process.reason else "")
    if process.reconnects:
        text += f", {process.reconnects} reconnects"
    if process.spool_windows:
        text += f"; {process.spool_windows} windows ({size(process.spool_bytes)}) in the spool, not yet safe"
    if process.pending_xa:
        text += f"; {process.pending_xa} prepared XA transactions"
    return text


def _snapshots(result: Status) -> None:
    out = stdout()
    if not result.snapshots:
        out.print("snapshots      none: take one with `rowback snapshot`")
        return
    table = Table(
        "snapshot", "taken (UTC)", "lock", "tables", "rows", "size", "restorable", box=None, padding=(0, 2, 0, 0)
    )
    for line in result.snapshots:
        usable = f"from {iso(line.restorable_from)}" if line.restorable_from else line.reason
        taken = iso(line.finished_at)
        table.add_row(
            line.snapshot_id, taken, line.mode, str(line.tables), str(line.rows), size(line.size_bytes), escape(usable)
        )
    out.print(table)
    for line in result.snapshots:
        if line.made_from:
            text = f"rolled forward from {', '.join(line.made_from)} to transaction {line.seq}"
            out.print(escape(f"{line.snapshot_id} was {text}"))
        for skipped in line.skipped:
            out.print(escape(f"{line.snapshot_id} left out {skipped}"))


def check(result: Check) -> None:
    out = stdout()
    style = _STYLES[result.verdict]
    out.print(f"[{style}]{result.verdict.value.upper():<8}[/]{escape(f'{result.name}: {result.message}')}")
    if result.why:
        out.print(escape(f"        why:  {result.why}"))
    if result.fix:
        out.print(escape(f"        mend: {result.fix}"))


def report_end(report: Report) -> None:
    counts = {verdict: sum(c.verdict is verdict for c in report.checks) for verdict in Verdict}
    text = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    verdict = "[green]ready[/]" if report.healthy else "[bold red]not ready[/]"
    stdout().print(f"{verdict}: {text}")


_LOADING = {
    "mydumper": (
        "load it with: myloader -d {0}",
        "or with the plain client: cd there and run: mysql --loose-commands --comments < load.mysql",
    ),
    "sql": ("load it with the plain client: cd there and run: mysql --loose-commands --comments < load.mysql",),
    "csv": (
        "load it with the plain client: cd there and run: mysql --local-infile=1 --loose-commands --comments < load.mysql",
    ),
    "parquet": ("each table is a folder of Parquet files; schema.sql beside them creates it",),
}


def restore(result: RestoreResult, data_format: str) -> None:
    """The plan of a dry run; else what was written, where, and how to load it."""
    out = stdout()
    if result.output is None:
        for line in result.plan.explain():
            out.print(line, markup=False)
        return
    out.print(result.plan.describe_cut(), markup=False)
    for line in result.plan.exclusion.explain() if result.plan.exclusion else ():
        out.print(line, markup=False)
    out.print(f"wrote {len(result.tables)} tables, {result.rows} rows to {result.output}", markup=False)
    if result.plan.objects.objects:
        out.print(f"with {result.plan.objects.counts()}, as they were then", markup=False)
    if result.resumed:
        out.print(f"  {len(result.resumed)} of them were finished and whole already", markup=False)
    for line in _LOADING[data_format]:
        out.print(line.format(shlex.quote(str(result.output))), markup=False)
    if data_format != "parquet":
        out.print("then compare with what was restored: mysql < check.mysql", markup=False)
    for warning in result.plan.warnings:
        out.print(f"warning: {warning}", markup=False)


def snapshot(result: SnapshotResult) -> None:
    out = stdout()
    taken = result.snapshot
    lock = f"lock held for {result.lock_held_s * 1000:.0f} ms" if taken.mode == "brief" else "no lock taken"
    out.print(f"snapshot {taken.snapshot_id}: {len(taken.baselines)} tables, {result.rows} rows", markup=False)
    out.print(f"  {size(taken.size_bytes)} in {taken.path}, {duration(result.duration_s)}, {lock}", markup=False)
    out.print(f"  from {taken.low.file}:{taken.low.position} to {taken.high.file}:{taken.high.position}", markup=False)
    if result.reason:
        out.print(f"  without a lock because {result.reason}", markup=False)
    for db, table, why in taken.skipped:
        out.print(f"  left out {db}.{table}: {why}", markup=False)
    for warning in result.warnings:
        out.print(f"warning: {warning}", markup=False)
    out.print("Restores can start from it once capture has passed its end (`rowback status`).", markup=False)
