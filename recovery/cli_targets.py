"""The options of commands that work up to a target: which one, of which tables, with what memory, and archived objects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recovery.errors import ConfigError
from recovery.scope import of_databases, split_patterns
from recovery.tiers import Thaw

ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="TARGET", help="A time (UTC unless it has a zone), a GTID, FILE:POSITION or latest."),
]
BeforeOption = Annotated[
    str | None, typer.Option("--before", metavar="GTID", help="The state just before this transaction.")
]
TablesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tables",
        "--table",
        metavar="PATTERN",
        help="db.table with * and ?; repeated or comma-separated. Default: all. A name in backticks is meant literally.",
    ),
]
DatabasesOption = Annotated[
    list[str] | None,
    typer.Option("--databases", "--database", metavar="NAME", help="Whole databases, also with * and ?; as --tables."),
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="Leave these tables out; as --tables.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")]
MemoryOption = Annotated[
    str, typer.Option("--memory", metavar="SIZE", help="What the merge may use before it spills to --scratch.")
]
ScratchOption = Annotated[
    Path | None,
    typer.Option("--scratch", metavar="DIR", help="For copies and spilled data. Default: the system's (TMPDIR)."),
]
ThawOption = Annotated[
    bool, typer.Option("--thaw", help="Ask the store for objects in an archive tier (S3 Glacier), and wait for them.")
]
NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="With --thaw: ask and end; try again when they are there.")
]
ThawTierOption = Annotated[
    str, typer.Option("--thaw-tier", metavar="TIER", help="Standard, Bulk (cheap, slow) or Expedited.")
]
ThawDaysOption = Annotated[
    int, typer.Option("--thaw-days", metavar="N", min=1, help="Days that the readable copies stay.")
]


def patterns_of(tables: list[str] | None, databases: list[str] | None) -> tuple[str, ...]:
    """What --tables and --databases select, as patterns of tables."""
    return (*split_patterns("--tables", tables), *of_databases(split_patterns("--databases", databases)))


def thaw_of(*, thaw: bool, no_wait: bool, tier: str, days: int) -> Thaw | None:
    """How to ask for archived objects; None if they aren't asked for. Raises ConfigError."""
    if no_wait and not thaw:
        raise ConfigError("--no-wait goes with --thaw", hint="Give both, or neither.")
    return Thaw(tier, days, not no_wait) if thaw else None
