"""`rowback roll-forward`: a new baseline from the archive alone. Imports stand where they do in cli_archive.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from recovery import cli_targets, operations
from recovery.cli_options import (
    ConfigOption,
    Format,
    FormatOption,
    ServerOption,
    context_for,
    duration,
    print_json,
    size,
    stdout,
)
from recovery.cli_progress import restore_progress
from recovery.errors import ConfigError
from recovery.scope import split_patterns
from recovery.sizes import parse_memory

if TYPE_CHECKING:
    from recovery.roll_forward import RollForwardResult


def register(app: typer.Typer) -> None:
    app.command("roll-forward", epilog="\b\nExamples:\n" + _EXAMPLES)(roll_forward)


_EXAMPLES = """\
  rowback roll-forward
  rowback roll-forward --to "2026-05-02 09:59:59"
  rowback roll-forward --before 3e11fa47-71ca-11e1-9e33-c80aa9429562:23
  rowback roll-forward --to binlog.000007:4242 --tables shop.orders,shop.items
  rowback roll-forward --database shop --exclude "shop.log_*" --memory 2GiB --scratch /var/tmp
  rowback roll-forward --thaw --thaw-tier Bulk
  rowback roll-forward --dry-run
  rowback roll-forward --format json
"""


def roll_forward(
    ctx: typer.Context,
    to: cli_targets.ToOption = None,
    before: cli_targets.BeforeOption = None,
    tables: cli_targets.TablesOption = None,
    databases: cli_targets.DatabasesOption = None,
    exclude: cli_targets.ExcludeOption = None,
    dry_run: cli_targets.DryRunOption = False,
    memory: cli_targets.MemoryOption = "1GiB",
    scratch: cli_targets.ScratchOption = None,
    thaw: cli_targets.ThawOption = False,
    no_wait: cli_targets.NoWaitOption = False,
    thaw_tier: cli_targets.ThawTierOption = "Standard",
    thaw_days: cli_targets.ThawDaysOption = 7,
    output_format: FormatOption = Format.table,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Make a snapshot of a target from the archive alone: an older snapshot with the changes up to there folded in.

    Without --to and --before it is of the newest captured transaction. Later restores start from it and have less to fold.
    The source server isn't touched. What a restore of the target would refuse is refused here, too.
    """
    if to is not None and before is not None:
        raise ConfigError("--to and --before can't be given together", hint="Give one of them.")
    asked = cli_targets.thaw_of(thaw=thaw, no_wait=no_wait, tier=thaw_tier, days=thaw_days)
    context = context_for(ctx, config, server)
    from recovery.roll_forward import RollForwardRequest

    request = RollForwardRequest(
        to=operations.just_before(context, before) if before is not None else to or "latest",
        tables=cli_targets.patterns_of(tables, databases),
        exclude=split_patterns("--exclude", exclude),
        dry_run=dry_run,
        memory_limit_bytes=parse_memory(memory),
        scratch_dir=scratch,
        thaw=asked,
    )
    with restore_progress() as progress:
        result = operations.roll_forward(context, request, progress)
    if output_format is Format.json:
        print_json(document(result))
    else:
        show(result)


def document(result: RollForwardResult) -> dict[str, Any]:
    """The result as plain data: the plan, and the snapshot without its baselines' objects."""
    made = result.snapshot
    facts = None
    if made is not None and made.synthetic is not None:
        facts = {
            "snapshot_id": made.snapshot_id,
            "seq": made.synthetic.seq,
            "gtid": made.synthetic.gtid,
            "sources": list(made.synthetic.sources),
            "tables": len(made.baselines),
            "rows": result.rows,
            "size_bytes": made.size_bytes,
        }
    return {
        "dry_run": made is None,
        "plan": result.plan.to_json(),
        "snapshot": facts,
        "log_version": result.log_version,
        "duration_s": result.duration_s,
        "warnings": list(result.warnings),
    }


def show(result: RollForwardResult) -> None:
    """The plan of a dry run; else the snapshot that was made."""
    out, made = stdout(), result.snapshot
    if made is None or made.synthetic is None:
        for line in result.plan.explain():
            out.print(line, markup=False)
        return
    out.print(f"snapshot {made.snapshot_id}: {len(made.baselines)} tables, {result.rows} rows", markup=False)
    out.print(f"  {result.plan.describe_cut()}", markup=False)
    out.print(f"  made from {', '.join(made.synthetic.sources)} without the source server", markup=False)
    out.print(f"  {size(made.size_bytes)}, {duration(result.duration_s)}", markup=False)
    for warning in result.warnings:
        out.print(f"warning: {warning}", markup=False)
