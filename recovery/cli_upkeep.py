"""Commands that look after the archive itself: verify, index, compact, sweep. They need no source server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from recovery import operations
from recovery.cli_options import (
    ConfigOption,
    Format,
    FormatOption,
    ServerOption,
    context_for,
    print_json,
    size,
    stderr,
    stdout,
)
from recovery.cli_progress import verify_progress
from recovery.errors import ArchiveDamaged, ConfigError
from recovery.plain import iso, moment

if TYPE_CHECKING:
    from recovery.archive.compaction import CompactionPlan, Merge
    from recovery.archive.compactor import Compacted
    from recovery.archive.rebuild import IndexRebuilt, IndexReport
    from recovery.archive.sweeping import SweepPlan
    from recovery.verify_report import ArchiveReport


def register(app: typer.Typer) -> None:
    app.command("verify", epilog="\b\nExamples:\n" + _VERIFY)(verify)
    app.command("compact", epilog="\b\nExamples:\n" + _COMPACT)(compact)
    app.command("sweep", epilog="\b\nExamples:\n" + _SWEEP)(sweep)
    index = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    index.command("show", epilog="\b\nExamples:\n" + _SHOW)(index_show)
    index.command("rebuild", epilog="\b\nExamples:\n" + _REBUILD)(index_rebuild)
    app.add_typer(
        index,
        name="index",
        help="The index table of an archive: what makes opening it fast. It can be made anew at any time.",
        epilog="\b\nExamples:\n" + _SHOW + _REBUILD,
    )


_SHOW = """\
  rowback index show
  rowback index show --server shop --format json
"""


def index_show(
    ctx: typer.Context,
    output_format: FormatOption = Format.table,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Show the archive's indexes, whether each can be read, and how much of the log lies behind the newest."""
    report = operations.index_show(context_for(ctx, config, server))
    if output_format is Format.json:
        print_json({**vars(report), "items": dict(report.items)})
    else:
        _index_lines(report)


def _index_lines(report: IndexReport) -> None:
    out = stdout()
    out.print(f"log          versions {report.oldest_log_version} to {report.log_version}")
    if not report.indexes:
        out.print("index        none: `rowback index rebuild` makes one")
        return
    table = Table("index of version", "size", "state", box=None, padding=(0, 2, 0, 0))
    for line in report.indexes:
        table.add_row(str(line.version), size(line.size_bytes), escape(line.problem or "whole"))
    out.print(table)
    out.print(f"behind       {report.behind} versions of the log, which a reader folds itself")
    out.print("holds        " + ", ".join(f"{count} {name}" for name, count in report.items))


_REBUILD = """\
  rowback index rebuild
  rowback index rebuild --server shop --format json
"""


def index_rebuild(
    ctx: typer.Context,
    output_format: FormatOption = Format.table,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Fold the log from its beginning and write a new index. Whatever indexes were damaged or lost no longer matter.

    Where the log was trimmed, the fold begins with the oldest index that can be read.
    """
    console = stderr()
    context = context_for(ctx, config, server)
    with console.status("reading the log") as status:

        def show(version: int) -> None:
            status.update(f"reading the log: version {version}")

        made = operations.index_rebuild(context, show)
    if output_format is Format.json:
        print_json({**vars(made), "items": dict(made.items)})
    else:
        _rebuilt_lines(made)


def _rebuilt_lines(made: IndexRebuilt) -> None:
    begin = f"version {made.from_version + 1}" if made.from_version else "the beginning"
    out = stdout()
    out.print(f"index of version {made.version} written, {size(made.size_bytes)}, from the log from {begin} on")
    out.print(escape(f"object {made.path}"))
    out.print("holds " + ", ".join(f"{count} {name}" for name, count in made.items))


_COMPACT = """\
  rowback compact --dry-run
  rowback compact
  rowback compact --server shop --format json
"""


def compact(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    output_format: FormatOption = Format.table,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Make large files, sorted by key, out of the small ones of hours that are over.

    Capture and restores may go on meanwhile. The old files stay for a day, for readers that opened the archive before.
    """
    context = context_for(ctx, config, server)
    if dry_run:
        plan = operations.compact_plan(context)
        if output_format is Format.json:
            print_json(_plan_json(plan))
        else:
            _plan_lines(plan)
        return
    console = stderr()
    with console.status("reading the archive") as status:

        def show(merge: Merge, read_bytes: int) -> None:
            status.update(f"compacting {escape(merge.label)}, {size(read_bytes)} read")

        done = operations.compact(context, show)
    if output_format is Format.json:
        plan_json = _plan_json(done.plan)
        print_json({**{k: v for k, v in vars(done).items() if k != "plan"}, "plan": plan_json})
    else:
        _compacted_lines(done)


def _plan_json(plan: CompactionPlan) -> dict[str, object]:
    merges = [
        {
            "of": m.of,
            "db": m.db,
            "table": m.table,
            "hour": moment(m.hour_us),
            "rows": m.rows,
            "size_bytes": m.size_bytes,
            "reason": m.reason,
            "inputs": m.paths,
        }
        for m in plan.merges
    ]
    return {"log_version": plan.version, "merges": merges, "left": plan.left}


def _plan_lines(plan: CompactionPlan) -> None:
    out = stdout()
    for m in plan.merges:
        out.print(escape(f"{m.label}, hour {iso(moment(m.hour_us))}: {m.reason}, {m.rows} rows, {size(m.size_bytes)}"))
    for left in plan.left:
        out.print(escape(f"left: {left.segments} of {left.label}: {left.reason}"))
    out.print(f"{plan.inputs} objects would become {len(plan.merges)} ({size(plan.size_bytes)} to read)")


def _compacted_lines(done: Compacted) -> None:
    out = stdout()
    if not done.versions:
        out.print("nothing to compact")
    else:
        sizes = f"{size(done.before_bytes)} became {size(done.after_bytes)}"
        out.print(f"{done.replaced} objects became {done.objects}, {sizes}, in {len(done.versions)} commits")
    for left in done.plan.left:
        out.print(escape(f"left: {left.segments} of {left.label}: {left.reason}"))


_VERIFY = """\
  rowback verify --archive
  rowback verify --archive --quick
  rowback verify --archive --server shop --format json
"""


def verify(
    ctx: typer.Context,
    archive: Annotated[bool, typer.Option("--archive", help="Check the archive: log, names, bytes, contents.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="The log, and names and sizes of objects; read no data.")
    ] = False,
    output_format: FormatOption = Format.table,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Prove from the bucket alone that nothing is missing, doubled or damaged. Exit status 5 if something is.

    Reads every object of the archive once; the server isn't asked. Capture may go on meanwhile.
    """
    if not archive:
        raise ConfigError("there is nothing to verify", hint="Give --archive.")
    context = context_for(ctx, config, server)
    with verify_progress() as show:
        report = operations.verify_archive(context, quick=quick, progress=show)
    if output_format is Format.json:
        print_json({"whole": report.whole, **vars(report)})
    else:
        _verified_lines(report)
    if not report.whole:
        raise typer.Exit(ArchiveDamaged.exit_status)


def _verified_lines(report: ArchiveReport) -> None:
    out = stdout()
    for finding in report.findings:
        out.print(f"[bold red]DAMAGE[/] {escape(finding.object)}: {escape(finding.problem)}")
    if report.truncated:
        out.print(f"and more than these {len(report.findings)}")
    out.print(f"log          versions {report.first_version} to {report.last_version}, {report.indexes} indexes agree")
    counts = f"{report.transactions} transactions"
    if report.gtids is not None:
        counts += f", {report.gtids} GTIDs, each once"
    if report.row_changes is not None:
        counts += f", {report.row_changes} row changes"
    out.print(f"holds        {counts}, {report.snapshots} snapshots")
    read = "names and sizes only" if report.quick else "every byte read"
    out.print(f"objects      {report.objects}, {size(report.size_bytes)}; {read}")
    for label, found in (("removed", report.removed), ("orphans", report.orphans)):
        if found.objects:
            out.print(
                f"{label:<12} {found.objects} objects, {size(found.size_bytes)}, that `rowback sweep` deletes in time"
            )
    out.print("[green]whole[/]" if report.whole else f"[bold red]{len(report.findings)} findings[/]")


_SWEEP = """\
  rowback sweep --dry-run
  rowback sweep
  rowback sweep --grace-hours 72 --format json
"""


def sweep(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and delete nothing.")] = False,
    grace_hours: Annotated[
        int,
        typer.Option("--grace-hours", metavar="N", min=1, max=720, help="How long a removed object stays for readers."),
    ] = 24,
    output_format: FormatOption = Format.table,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Delete what compaction replaced a day ago and what failed attempts left, and trim the old end of the log.

    No row of the history goes: only copies of it, and commits that an index stands for.
    """
    context = context_for(ctx, config, server)
    if dry_run:
        plan = operations.sweep_plan(context, grace_hours=grace_hours)
        if output_format is Format.json:
            print_json(plan)
        else:
            _sweep_lines(plan)
        return
    with stderr().status("looking for what nobody needs") as status:
        done = operations.sweep(
            context, grace_hours=grace_hours, on_delete=lambda name: status.update(f"deleting {escape(name)}")
        )
    if output_format is Format.json:
        print_json(done)
    else:
        _sweep_lines(done.plan)
        stdout().print(f"deleted {done.objects} objects, {done.trimmed} log versions, {done.indexes} indexes")


def _sweep_lines(plan: SweepPlan) -> None:
    out = stdout()
    reasons = sorted({d.reason for d in plan.doomed})
    for reason in reasons:
        found = [d for d in plan.doomed if d.reason == reason]
        out.print(escape(f"goes: {len(found)} objects, {size(sum(d.size_bytes for d in found))}: {reason}"))
    for kept in plan.kept:
        out.print(escape(f"stays: {kept.objects} objects, {size(kept.size_bytes)}: {kept.reason}"))
    span = f"versions {plan.trim[0]} to {plan.trim[-1]} go" if plan.trim else "nothing to trim"
    out.print(escape(f"log: {span}: {plan.trim_reason}"))
    if plan.indexes:
        out.print(f"goes: {len(plan.indexes)} old indexes")
