"""The commands by name: the line that `rowback --help` has for each, and the module that is imported when it is called.

A command's module brings what its options and its output need. The list of commands, a misspelt command and every other
command need none of it, so the group holds stand-ins that know a name and one line, and a stand-in becomes the command when
it is called or asked for its own help. (Click's documentation: lazily loading subcommands.)

Modules are named by constants, for tests/test_layers.py to see them. tests/test_start.py holds the lines against the
commands' own helps, and says what a start may not import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Family:
    """The commands that one module registers, with the first sentence of each one's help."""

    load: Callable[[], ModuleType]
    summaries: Mapping[str, str]


# In the order of `rowback --help`.
FAMILIES: Final = (
    Family(
        lambda: import_module("recovery.cli_capture"),
        {
            "capture": "Capture the binary log into the archive until SIGTERM or Ctrl-C, which commit the open window first."
        },
    ),
    Family(
        lambda: import_module("recovery.cli_source"),
        {
            "snapshot": "Take a full snapshot with mydumper while the server works, and add it to the archive.",
            "doctor": "Check server, privileges, tools and archive.",
            "init": "Write a commented rowback.toml (to --config, else ./rowback.toml), then run doctor.",
        },
    ),
    Family(
        lambda: import_module("recovery.cli_status"),
        {"status": "Show what the archive covers, how far behind it is, its snapshots and its gaps."},
    ),
    Family(
        lambda: import_module("recovery.cli_archive"),
        {
            "changes": "Show the change history of a table with before and after images, newest first.",
            "undo": "Write the SQL that takes changes back, newest first.",
            "restore": "Write the tables, as they were at the end of a transaction, as files to load or to read.",
        },
    ),
    Family(
        lambda: import_module("recovery.cli_roll_forward"),
        {
            "roll-forward": "Make a snapshot of a target from the archive alone: an older snapshot with the changes up to "
            "there folded in."
        },
    ),
    Family(
        lambda: import_module("recovery.cli_upkeep"),
        {
            "verify": "Prove from the bucket alone that nothing is missing, doubled or damaged.",
            "compact": "Make large files, sorted by key, out of the small ones of hours that are over.",
            "sweep": "Delete what compaction replaced a day ago and what failed attempts left, and trim the old end of the "
            "log.",
            "index": "The index table of an archive: what makes opening it fast.",
        },
    ),
)


class Commands(TyperGroup):
    """The group of stand-ins. What it lists and suggests is theirs; what it calls is the command itself."""

    def __init__(self, **attributes: Any) -> None:
        names = [(name, summary) for family in FAMILIES for name, summary in family.summaries.items()]
        stand_ins = {name: TyperCommand(name, help=summary) for name, summary in names}
        super().__init__(**{**attributes, "commands": stand_ins})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, stand_in and command(stand_in.name or ""), rest


def command(name: str) -> Any:
    """The command itself: of Click, whichever Click typer brings. Imports its module."""
    family = next(family for family in FAMILIES if name in family.summaries)
    part = typer.Typer(add_completion=False, rich_markup_mode=None)
    family.load().register(part)
    return typer.main.get_group(part).commands[name]
