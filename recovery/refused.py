"""What a restore says of a statement that it can't go through: the statement, its position, and the way out."""

from __future__ import annotations

from recovery.archive.actions import Ddl
from recovery.ddl import TableName
from recovery.errors import DdlInRange
from recovery.scope import spelled
from recovery.target import format_us


def refused(name: TableName, ddl: Ddl, why: str) -> DdlInRange:
    return DdlInRange(
        f"table `{name[0]}.{name[1]}` can't be restored across `{shown(ddl)}` at {ddl.file}:{ddl.position}: {why}",
        hint=f"Restore to just before it with `{just_before(ddl)}` (transaction {ddl.seq}, {format_us(ddl.cut_at_us)}), "
        f"take a snapshot after it, or leave the table out with `--exclude '{spelled(name)}'`.",
    )


def shown(ddl: Ddl) -> str:
    statement = " ".join(ddl.statement.split())
    return statement if len(statement) <= 200 else statement[:197] + "..."


def just_before(ddl: Ddl) -> str:
    """The option that means the state in front of a statement."""
    return f"--before {ddl.gtid}" if ddl.gtid else f"--to {ddl.file}:{ddl.position}"
