"""`rowback capture`: finds the settings right, then becomes the dataflow (dataflow/run.py)."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from recovery.capture_command import CaptureRequest, capture_command
from recovery.cli_options import ConfigOption, Format, all_servers, server_for, settings_for, split


def register(app: typer.Typer) -> None:
    app.command("capture", epilog="\b\nExamples:\n" + _EXAMPLES)(capture)


_EXAMPLES = """\
  rowback capture
  rowback capture --until-caught-up
  rowback capture --server shop --window-seconds 2
  rowback capture --from-position binlog.000007:4
  rowback capture --from-earliest
  rowback capture --skip-gap
  rowback capture --server shop --server crm
  rowback capture --all --workers 2 --metrics-port 9187
  rowback capture --all --process-id 0 --addresses 127.0.0.1:7401,127.0.0.1:7402
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
    skip_gap: Annotated[
        bool,
        typer.Option(
            "--skip-gap",
            help="Give up what lies in the gap at the archive's end and go on at the source's current position, or at "
            "--from-...; take a new snapshot afterwards.",
        ),
    ] = False,
    server: Annotated[
        list[str] | None,
        typer.Option("--server", metavar="NAME", help="Server section; repeat it for several.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All configured servers.")] = False,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, max=64, help="Threads that share the servers.")] = 1,
    process_id: Annotated[
        int | None,
        typer.Option("--process-id", "-i", min=0, help="Which of several processes this is, from 0 on."),
    ] = None,
    addresses: Annotated[
        list[str] | None,
        typer.Option(
            "--addresses", "-a", metavar="HOST:PORT,...", help="Of all the processes that share the servers, in order."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port", min=1, max=65535, help="Give figures on this port of 127.0.0.1: /metrics and /health."
        ),
    ] = None,
    output_format: Annotated[Format, typer.Option("--format", help="Form of an error: text or JSON.")] = Format.table,
    config: ConfigOption = None,
) -> None:
    """Capture the binary log into the archive until SIGTERM or Ctrl-C, which commit the open window first.

    The first start begins at the server's current position, later ones where the archive ends. Of several servers one that
    can't go on ends alone; the command ends when all have, with the first error's exit status.
    """
    settings = settings_for(ctx, config)
    given = split(server)
    names = all_servers(ctx, settings, *given) if every else given or (server_for(ctx, settings),)
    request = CaptureRequest(
        names,
        until_caught_up,
        window_seconds,
        from_gtid,
        from_position,
        from_earliest,
        skip_gap,
        output_format is Format.json,
        workers,
        process_id,
        split(addresses),
        metrics_port,
    )
    command = capture_command(settings, request)
    sys.stdout.flush()
    sys.stderr.flush()
    # The dataflow becomes this process: signals reach it and its exit status is ours.
    os.execve(command.argv[0], list(command.argv), {**os.environ, **command.environment})  # noqa: S606
