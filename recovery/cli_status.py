"""`rowback status`: what the archive covers."""

from __future__ import annotations

from typing import Annotated

import typer

from recovery import cli_render, operations
from recovery.cli_options import (
    ConfigOption,
    Format,
    FormatOption,
    ServerOption,
    context_for,
    contexts_for_all,
    print_json,
    stdout,
)


def register(app: typer.Typer) -> None:
    app.command("status", epilog="\b\nExamples:\n" + _EXAMPLES)(status)


_EXAMPLES = """\
  rowback status
  rowback status --server shop --format json
  rowback status --all
"""


def status(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Don't ask the server how far behind capture is.")] = False,
    output_format: FormatOption = Format.table,
    config: ConfigOption = None,
    server: ServerOption = None,
    every: Annotated[bool, typer.Option("--all", help="All configured servers; JSON is an array then.")] = False,
) -> None:
    """Show what the archive covers, how far behind it is, its snapshots and its gaps. Works with the server down."""
    contexts = contexts_for_all(ctx, config, server) if every else [context_for(ctx, config, server)]
    results = [operations.status(context, ask_server=not offline) for context in contexts]
    if output_format is Format.json:
        print_json(results if every else results[0])
        return
    for number, result in enumerate(results):
        if number:
            stdout().print()
        cli_render.status(result)
