"""What the commands share: global options, output formats, consoles, sizes and durations as text."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from recovery.cli_globals import Globals
from recovery.config import Settings, load
from recovery.context import Context, context_of, server_name
from recovery.errors import ConfigError
from recovery.plain import to_plain

PLAIN_WIDTH = 1_000  # columns of a table that no terminal reads


class Format(StrEnum):
    table = "table"
    json = "json"


class ChangeFormat(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="rowback.toml to use.", show_default=False)
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="NAME", help="Server section to use; not needed if there is one.", show_default=False
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="Output for people or for programs.")]


def globals_of(ctx: typer.Context) -> Globals:
    return ctx.find_object(Globals) or Globals()


def settings_for(ctx: typer.Context, config: Path | None) -> Settings:
    return load(config or globals_of(ctx).config)


def server_for(ctx: typer.Context, settings: Settings, server: str | None = None) -> str:
    """The server's name, as it was given after the command, before it, or in the environment."""
    return server_name(settings, server or globals_of(ctx).server)


def all_servers(ctx: typer.Context, settings: Settings, *given: str) -> tuple[str, ...]:
    """Of every configured server, by name. Raises ConfigError beside --server, and if there is none."""
    if given or globals_of(ctx).server is not None:
        raise ConfigError("--all and --server can't be given together", hint="Leave one of them out.")
    return tuple(sorted(settings.servers)) or (settings.server_name(None),)


def context_for(ctx: typer.Context, config: Path | None, server: str | None) -> Context:
    settings = settings_for(ctx, config)
    return context_of(settings, server_for(ctx, settings, server))


def contexts_for_all(ctx: typer.Context, config: Path | None, server: str | None) -> list[Context]:
    """Of every configured server, by name. Raises ConfigError beside --server."""
    settings = settings_for(ctx, config)
    given = () if server is None else (server,)
    return [context_of(settings, name) for name in all_servers(ctx, settings, *given)]


def stdout() -> Console:
    """For results: wide and without colours unless a person's terminal reads it."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=PLAIN_WIDTH)


def stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def split(values: Sequence[str] | None) -> tuple[str, ...]:
    """A repeated option whose values may be comma-separated. A name with a comma in it is written with `?` for it."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def print_json(result: object) -> None:
    sys.stdout.write(json.dumps(to_plain(result), ensure_ascii=False, indent=2) + "\n")


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 2880 else f"{minutes / 1440:.1f} days"
