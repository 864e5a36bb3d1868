"""Commands that read the archive and never need the source server: changes, undo, restore.

What does a command's work is imported where it begins, after its arguments and rowback.toml were found to be right: it takes
a second, which nobody shall wait for who asks for help or has mistyped.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recovery import cli_render, cli_targets, operations
from recovery.cli_options import (
    ChangeFormat,
    ConfigOption,
    Format,
    ServerOption,
    context_for,
    print_json,
    stdout,
)
from recovery.cli_progress import restore_progress
from recovery.errors import ConfigError
from recovery.output.options import OutputOptions
from recovery.plain import to_plain
from recovery.scope import split_patterns
from recovery.sizes import parse_memory, parse_size

if TYPE_CHECKING:
    from recovery.changes import ChangeQuery

TABLE_LIMIT = 100  # changes shown to a person unless --limit says otherwise
PIPED_WIDTH = 200


class ExceptConflicts(StrEnum):
    """recovery/except_report.py's POLICIES."""

    refuse = "refuse"
    keep_later = "keep-later"
    drop_later = "drop-later"


class UndoFormat(StrEnum):
    sql = "sql"
    json = "json"


class RestoreFormat(StrEnum):
    """table and json are what --report takes: --format was for that alone once."""

    mydumper = "mydumper"
    parquet = "parquet"
    sql = "sql"
    csv = "csv"
    table = "table"
    json = "json"


TableOption = Annotated[
    str, typer.Option("--table", metavar="DB.TABLE", help="The table; put names with dots in them in backticks.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="VALUE[,VALUE]", help="Only the row with this primary key (or its first columns)."),
]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="From this time (UTC unless it has a zone) or GTID on.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Up to this time or GTID, inclusive.")]
OpOption = Annotated[
    list[str] | None, typer.Option("--op", metavar="OP", help="insert, update or delete; may be repeated.")
]
TransactionOption = Annotated[
    list[str] | None,
    typer.Option("--transaction", metavar="GTID|SEQ", help="Only changes of this transaction; may be repeated."),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many changes, newest first.")
]


def register(app: typer.Typer) -> None:
    for name, command, examples in (
        ("changes", changes, _CHANGES),
        ("undo", undo, _UNDO),
        ("restore", restore, _RESTORE),
    ):
        app.command(name, epilog="\b\nExamples:\n" + examples)(command)


_CHANGES = """\
  rowback changes --table shop.orders
  rowback changes --table shop.orders --key 42 --format json
  rowback changes --table shop.orders --since "2026-05-02 10:00:00" --until 2026-05-02T12:00:00+02:00
  rowback changes --table shop.orders --op delete --op update --limit 20
  rowback changes --table shop.orders --transaction 3e11fa47-71ca-11e1-9e33-c80aa9429562:23 --format csv
  rowback changes --table '`my.db`.`odd.name`'
"""


def changes(
    ctx: typer.Context,
    table: TableOption,
    key: KeyOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    op: OpOption = None,
    transaction: TransactionOption = None,
    limit: LimitOption = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In the order in which they happened.")] = False,
    output_format: Annotated[ChangeFormat, typer.Option("--format", help="table, json or csv.")] = ChangeFormat.table,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Show the change history of a table with before and after images, newest first.

    The table format shows the newest 100 unless --limit says otherwise; json and csv give all.
    """
    if limit is None and output_format is ChangeFormat.table:
        limit = TABLE_LIMIT
    context = context_for(ctx, config, server)
    from recovery.render import changes_csv, changes_json, changes_table, known_line
    from recovery.seqrange import micros

    query = _query(key, since, until, op, transaction, limit, newest_first=not oldest_first)
    result = operations.changes(context, table, replace(query, asked_at_us=micros(context.now())))
    if output_format is ChangeFormat.json:
        sys.stdout.write(changes_json(result))
    elif output_format is ChangeFormat.csv:
        sys.stdout.write(changes_csv(result))
        _warn(result.warnings)
        typer.echo(known_line(result), err=True)
    else:
        console = stdout()
        width = console.width if console.is_terminal else PIPED_WIDTH
        sys.stdout.write(changes_table(result, width, color=console.is_terminal))


_UNDO = """\
  rowback undo --table shop.orders --since "2026-05-02 10:00:00" --output undo.sql
  rowback undo --table shop.orders --key 42 --limit 1
  rowback undo --table shop.orders --transaction 3e11fa47-71ca-11e1-9e33-c80aa9429562:23
  rowback undo --table shop.orders --op delete --since 2026-05-02T10:00:00Z --format json
"""


def undo(
    ctx: typer.Context,
    table: TableOption,
    key: KeyOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    op: OpOption = None,
    transaction: TransactionOption = None,
    limit: LimitOption = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write the script there.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite --output.")] = False,
    output_format: Annotated[
        UndoFormat, typer.Option("--format", help="sql, or json with the script in it.")
    ] = UndoFormat.sql,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Write the SQL that takes changes back, newest first. It is never applied: review it, then run it yourself."""
    if not any((key, since, until, op, transaction, limit)):
        raise ConfigError(
            f"undo of `{table}` without any filter would take its whole history back",
            hint="Give --since, --until, --key, --op, --transaction or --limit.",
        )
    context = context_for(ctx, config, server)
    from recovery.render import iso_us
    from recovery.seqrange import known_text, micros
    from recovery.undo_script import script_sql

    asked_at_us = micros(context.now())
    query = replace(_query(key, since, until, op, transaction, limit), asked_at_us=asked_at_us)
    script = operations.undo(context, table, query)
    sql = script_sql(script)
    if output is not None:
        _write_whole(output, sql, force=force)
    if output_format is UndoFormat.json:
        known = {"known_to": iso_us(script.known_to_us)}
        facts = {"summary": script.summary, "truncated": script.truncated, **known, "warnings": script.warnings}
        document = to_plain({"table": ".".join(script.query.table), **facts, "changes": script.summary.changes})
        print_json({**document, "conflicts": len(script.conflicts), "output": output, "sql": sql})
        return
    if output is None:
        sys.stdout.write(sql)
    else:
        typer.echo(f"wrote {output}: {_undone(script.summary.changes, script.summary.transactions)}", err=True)
        if script.conflicts:
            typer.echo(f"warning: {len(script.conflicts)} of these rows changed again later; see the script", err=True)
    _warn(script.warnings)
    typer.echo(known_text(script.known_to_us, asked_at_us), err=True)


def _undone(count: int, transactions: Sequence[object]) -> str:
    return f"{count} changes of {len(transactions)} transactions taken back"


_RESTORE = """\
  rowback restore --to "2026-05-02 09:59:59" --output restored
  rowback restore --to 3e11fa47-71ca-11e1-9e33-c80aa9429562:22 --tables shop.orders --output restored
  rowback restore --before 3e11fa47-71ca-11e1-9e33-c80aa9429562:23 --tables "shop.*" --output restored
  rowback restore --to binlog.000007:4242 --tables shop.orders,shop.items --dry-run
  rowback restore --to latest --except 3e11fa47-71ca-11e1-9e33-c80aa9429562:23 --tables shop.orders --dry-run
  rowback restore --to latest --except binlog.000007:4242 --except-conflicts keep-later --output restored
  rowback restore --to latest --database shop --rename shop=shop_restored --output restored
  rowback restore --to latest --tables shop.orders --rename shop.orders=shop.orders_old --output restored
  rowback restore --to latest --events-disabled --output restored
  rowback restore --to latest --thaw --thaw-tier Bulk --output restored
  rowback restore --to latest --exclude "shop.log_*" --tables '`my.db`.*' --output restored
  rowback restore --to latest --dry-run --report json
  rowback restore --to latest --compress gzip --statement-size 4MiB --resume --output restored
  rowback restore --to latest --format parquet --rows-per-file 1000000 --output restored
  rowback restore --to latest --format csv --tables shop.orders --compress zstd --output restored
  rowback restore --to "2026-05-02 09:59:59" --format sql --tables shop.orders --output story
"""


def restore(
    ctx: typer.Context,
    to: cli_targets.ToOption = None,
    before: cli_targets.BeforeOption = None,
    tables: cli_targets.TablesOption = None,
    databases: cli_targets.DatabasesOption = None,
    exclude: cli_targets.ExcludeOption = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename",
            metavar="OLD=NEW",
            help="Another name in the output, for a database or a table (db.old=db.new); may be repeated.",
        ),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            "--except",
            metavar="GTID",
            help="Leave this transaction out, as if it had never happened; a GTID or FILE:POSITION, may be repeated.",
        ),
    ] = None,
    except_conflicts: Annotated[
        ExceptConflicts,
        typer.Option(
            "--except-conflicts",
            help="Later changes that can't be without it: refuse, keep-later (their rows as logged) or drop-later (leave "
            "those changes out, too).",
        ),
    ] = ExceptConflicts.refuse,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="New or empty folder for the dump directory.")
    ] = None,
    dry_run: cli_targets.DryRunOption = False,
    memory: cli_targets.MemoryOption = "1GiB",
    scratch: cli_targets.ScratchOption = None,
    data_format: Annotated[
        RestoreFormat,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="mydumper (for myloader and the mysql client), parquet (typed files), csv (for LOAD DATA), or sql (the "
            "snapshot's state, then every change up to the target as a statement). json and table: see --report.",
        ),
    ] = RestoreFormat.mydumper,
    compress: Annotated[
        str,
        typer.Option(
            "--compress",
            metavar="CODEC",
            help="none, gzip (all formats) or zstd (all but mydumper). Default: zstd inside Parquet, else none.",
            show_default=False,
        ),
    ] = "",
    statement_size: Annotated[
        str, typer.Option("--statement-size", metavar="SIZE", help="An INSERT's bytes; at most max_allowed_packet.")
    ] = "1MB",
    rows_per_file: Annotated[
        int | None,
        typer.Option(
            "--rows-per-file",
            metavar="N",
            min=1,
            help="Start a table's next file after N rows. Default: files of about 64 MiB.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with a restore that was cut off (same target and options): finished tables are checked and kept. "
            "Given from the start, an error leaves what is finished.",
        ),
    ] = False,
    report: Annotated[Format, typer.Option("--report", help="The result for people or for programs.")] = Format.table,
    events_disabled: Annotated[
        bool, typer.Option("--events-disabled", help="Create events DISABLED. Default: as they were at the target.")
    ] = False,
    thaw: cli_targets.ThawOption = False,
    no_wait: cli_targets.NoWaitOption = False,
    thaw_tier: cli_targets.ThawTierOption = "Standard",
    thaw_days: cli_targets.ThawDaysOption = 7,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Write the tables, as they were at the end of a transaction, as files to load or to read.

    With their triggers, and with the views, routines and events of their databases (of those that --tables selects).

    No server is touched: review the directory, then load it yourself. rowback-manifest.json in it lists every file with its
    digest, and check.mysql compares what was loaded.
    """
    if (to is None) == (before is None):
        raise ConfigError("give either --to or --before", hint='For example --to "2026-05-02 10:00:00" or --to latest.')
    if output is None and not dry_run:
        raise ConfigError(
            "a restore needs an output folder", hint="Give --output DIR, or --dry-run for the plan alone."
        )
    asked = cli_targets.thaw_of(thaw=thaw, no_wait=no_wait, tier=thaw_tier, days=thaw_days)
    context = context_for(ctx, config, server)
    from recovery.render import restore_document
    from recovery.restore import RestoreRequest

    target = to if to is not None else operations.just_before(context, before or "")
    if data_format in (RestoreFormat.table, RestoreFormat.json):
        report, data_format = Format(data_format.value), RestoreFormat.mydumper
    options = OutputOptions(
        data_format.value,
        compress,
        statement_bytes=parse_size("--statement-size", statement_size),
        rows_per_file=rows_per_file,
    )
    request = RestoreRequest(
        target,
        cli_targets.patterns_of(tables, databases),
        output,
        dry_run,
        memory_limit_bytes=parse_memory(memory),
        scratch_dir=scratch,
        exclude=split_patterns("--exclude", exclude),
        options=options,
        resume=resume,
        leave_out=tuple(leave_out or ()),
        except_conflicts=except_conflicts.value,
        rename=tuple(rename or ()),
        events_disabled=events_disabled,
        thaw=asked,
    )
    with restore_progress() as progress:
        result = operations.restore(context, request, progress)
    if report is Format.json:
        print_json(restore_document(result))
    else:
        cli_render.restore(result, data_format.value)


def _query(
    key: str | None,
    since: str | None,
    until: str | None,
    op: list[str] | None,
    transaction: list[str] | None,
    limit: int | None,
    *,
    newest_first: bool = True,
) -> ChangeQuery:
    from recovery.changes import ChangeQuery

    return ChangeQuery(
        table=("", ""),  # the operation finds it in the archive
        key=key,
        since=since,
        until=until,
        ops=tuple(op or ()),
        transactions=tuple(int(t) if t.isdigit() else t for t in transaction or ()),
        limit=limit,
        newest_first=newest_first,
    )


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _write_whole(path: Path, text: str, *, force: bool) -> None:
    """The file appears whole or not at all; readable by its owner only, for it holds row values."""
    if path.exists() and not force:
        raise ConfigError(f"`{path}` exists already", hint="Choose another name, or overwrite it with --force.")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
