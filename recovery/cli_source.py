"""Commands that work with the source server: capture, snapshot, doctor, init."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from recovery import cli_render, operations
from recovery.cli_options import (
    ConfigOption,
    Format,
    FormatOption,
    Globals,
    ServerOption,
    context_for,
    print_json,
)
from recovery.context import Context, open_context
from recovery.initialise import InitRequest
from recovery.operations import CaptureRequest


def register(app: typer.Typer) -> None:
    for name, command, examples in (
        ("capture", capture, _CAPTURE),
        ("snapshot", snapshot, _SNAPSHOT),
        ("doctor", doctor, _DOCTOR),
        ("init", init, _INIT),
    ):
        app.command(name, epilog="\b\nExamples:\n" + examples)(command)


_CAPTURE = """\
  rowback capture
  rowback capture --until-caught-up
  rowback capture --server shop --window-seconds 2
  rowback capture --from-position binlog.000007:4
  rowback capture --from-earliest
"""


def capture(
    ctx: typer.Context,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="End when the source's current end is in the archive.")
    ] = False,
    window_seconds: Annotated[
        float | None,
        typer.Option(
            "--window-seconds", min=0.05, max=300, help="Commit at least this often (default: the settings')."
        ),
    ] = None,
    from_gtid: Annotated[
        str | None,
        typer.Option("--from-gtid", metavar="SET", help="First start only: begin after this GTID set."),
    ] = None,
    from_position: Annotated[
        str | None,
        typer.Option("--from-position", metavar="FILE:POS", help="First start only: begin at this binlog position."),
    ] = None,
    from_earliest: Annotated[
        bool, typer.Option("--from-earliest", help="First start only: begin at the oldest binlog the server has.")
    ] = False,
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Capture the binary log into the archive until SIGTERM or Ctrl-C, which commit the open window first.

    The first start begins at the server's current position, later ones where the archive ends.
    """
    context = context_for(ctx, config, server)
    request = CaptureRequest(until_caught_up, window_seconds, from_gtid, from_position, from_earliest)
    command = operations.capture_command(context, request)
    sys.stdout.flush()
    sys.stderr.flush()
    # The dataflow becomes this process: signals reach it and its exit status is ours.
    os.execve(command.argv[0], list(command.argv), {**os.environ, **command.environment})  # noqa: S606


_DOCTOR = """\
  rowback doctor
  rowback doctor --server shop --format json
"""


def doctor(
    ctx: typer.Context,
    format: FormatOption = Format.table,  # noqa: A002  (the option's name)
    config: ConfigOption = None,
    server: ServerOption = None,
) -> None:
    """Check server, privileges, tools and archive. Exit status 1 if a check fails; advice never fails."""
    context = context_for(ctx, config, server)
    raise typer.Exit(_examine(context, format))


def _examine(context: Context, format: Format) -> int:  # noqa: A002
    if format is Format.json:
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
