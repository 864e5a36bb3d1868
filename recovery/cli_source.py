"""Commands that work with the source server beside capture: snapshot, doctor, init."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recovery import cli_progress, cli_render, operations
from recovery.cli_globals import Globals
from recovery.cli_options import (
    ConfigOption,
    Format,
    FormatOption,
    ServerOption,
    context_for,
    print_json,
    split,
)
from recovery.context import Context, open_context
from recovery.initialise import InitRequest
from recovery.snapshot.request import SnapshotRequest


def register(app: typer.Typer) -> None:
    for name, command, examples in (
        ("snapshot", snapshot, _SNAPSHOT),
        ("doctor", doctor, _DOCTOR),
        ("init", init, _INIT),
    ):
        app.command(name, epilog="\b\nExamples:\n" + examples)(command)


_SNAPSHOT = """\
  rowback snapshot
  rowback snapshot --server shop --threads 8 --lock none
  rowback snapshot --databases shop,crm --exclude "shop.tmp_*"
  rowback snapshot --tables shop.orders --format json
"""


class Lock(StrEnum):
    auto = "auto"
    brief = "brief"
    none = "none"


def snapshot(
    ctx: typer.Context,
    tables: Annotated[
        list[str] | None,
        typer.Option("--tables", metavar="PATTERN", help="db.table with * and ?; repeated or comma-separated."),
    ] = None,
    databases: Annotated[
        list[str] | None,
        typer.Option("--databases", metavar="NAME", help="Whole databases; repeated or comma-separated."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="db.table patterns to leave out.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, max=64, help="Parallel connections of mydumper.")] = 4,
    lock: Annotated[
        Lock, typer.Option("--lock", help="brief: lock for some 40 ms; none: never; auto: brief where it can be had.")
    ] = Lock.auto,
    lock_wait_seconds: Annotated[
        float, typer.Option("--lock-wait-seconds", min=0.1, help="How long the lock may wait, and be held.")
    ] = 5,
    skip_unsafe: Annotated[
        bool, typer.Option("--skip-unsafe", help="Without a lock, leave out tables that need one instead of refusing.")
    ] = False,
    staging_dir: Annotated[
        Path | None, typer.Option("--staging-dir", metavar="DIR", help="Where the dump is staged before its upload.")
    ] = None,
    output_format: FormatOption = Format.table,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Take a full snapshot with mydumper while the server works, and add it to the archive."""
    request = SnapshotRequest(
        tables=split(tables),
        databases=split(databases),
        exclude=split(exclude),
        threads=threads,
        lock=lock.value,
        lock_wait_seconds=lock_wait_seconds,
        skip_unsafe=skip_unsafe,
        staging_dir=staging_dir,
    )
    context = context_for(ctx, config, server)
    with cli_progress.snapshot_progress() as report:
        result = operations.snapshot(context, request, report)
    if output_format is Format.json:
        print_json(result)
    else:
        cli_render.snapshot(result)


_DOCTOR = """\
  rowback doctor
  rowback doctor --server shop --format json
"""


def doctor(
    ctx: typer.Context,
    output_format: FormatOption = Format.table,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Check server, privileges, tools and archive. Exit status 1 if a check fails; advice never fails."""
    context = context_for(ctx, config, server)
    raise typer.Exit(_examine(context, output_format))


def _examine(context: Context, output_format: Format) -> int:
    if output_format is Format.json:
        report = operations.doctor(context)
        print_json({"healthy": report.healthy, "report": report})
    else:
        report = operations.doctor(context, cli_render.check)
        cli_render.report_end(report)
    return 0 if report.healthy else 1


_INIT = """\
  rowback init --name shop --host db.example.com --user rowback --root file:///srv/rowback
  rowback init --name shop --root s3://bucket/prefix --force
"""


def init(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="Label of the server in the archive: a-z, 0-9, - and _.")] = None,
    host: Annotated[str | None, typer.Option(help="Host of the server.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the server.")] = None,
    user: Annotated[str | None, typer.Option(help="Account of the server.")] = None,
    root: Annotated[
        str | None, typer.Option(help="Where the archive goes: file:///folder or s3://bucket/prefix.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    config: ConfigOption = None,
) -> None:
    """Write a commented rowback.toml (to --config, else ./rowback.toml), then run doctor.

    Asks for what is not given, on a terminal only. Never asks for a password: it writes down which environment variable
    will hold it.
    """
    path = config or (ctx.find_object(Globals) or Globals()).config or Path("rowback.toml")
    request = InitRequest(
        path=path,
        name=_ask(name, "Label of the server in the archive", "main"),
        host=_ask(host, "Host", "127.0.0.1"),
        port=int(_ask(None if port is None else str(port), "Port", "3306")),
        user=_ask(user, "Account", "rowback"),
        root=_ask(root, "Archive (file:///folder or s3://bucket/prefix)", "file:///srv/rowback"),
        force=force,
    )
    written = operations.initialise(request)
    typer.echo(f"wrote {written.path}")
    typer.echo(f"The password is read from the environment variable {written.password_env}.\n")
    raise typer.Exit(_examine(open_context(written.path, request.name), Format.table))


def _ask(given: str | None, question: str, default: str) -> str:
    if given is not None:
        return given
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return default
    return str(typer.prompt(question, default=default, err=True))
