"""What a restore says of a statement that it can't go through: the statement, its position, and the way out."""

from __future__ import annotations

from functools import partial

from recovery.archive.actions import Ddl
from recovery.ddl import TableName
from recovery.errors import DdlInRange
from recovery.replayable import why_not
from recovery.scope import spelled
from recovery.target import format_us


class Refused(DdlInRange):
    """table: under its name at the target. replayed: whether a server that runs the statement could help; way_out: that."""

    def __init__(self, table: TableName, ddl: Ddl, why: str, way_out: str = "", *, replayed: bool = True) -> None:
        text = (
            f"table `{table[0]}.{table[1]}` can't be restored across `{shown(ddl)}` at {ddl.file}:{ddl.position}: {why}"
        )
        leave_out = f"leave the table out with `--exclude '{spelled(table)}'`"
        before = f"`{just_before(ddl)}` (transaction {ddl.seq}, {format_us(ddl.cut_at_us)})"
        super().__init__(
            text, hint=f"Restore to just before it with {before}, {way_out}take a snapshot after it, or {leave_out}."
        )
        self.table, self.ddl, self.why, self.way_out, self.replayed = table, ddl, why, way_out, replayed

    def __reduce__(self) -> tuple[object, ...]:
        return (partial(Refused, replayed=self.replayed), (self.table, self.ddl, self.why, self.way_out))


def refused(name: TableName, ddl: Ddl, why: str, *, replayed: bool = True) -> Refused:
    """To be raised where a restore can't go on. replayed: see Refused."""
    able = replayed and why_not(ddl) is None
    way_out = "have it replayed on an empty server (`scratch_host` in rowback.toml), " if able else ""
    return Refused(name, ddl, why, way_out, replayed=replayed)


def shown(ddl: Ddl) -> str:
    statement = " ".join(ddl.statement.split())
    return statement if len(statement) <= 200 else statement[:197] + "..."


def just_before(ddl: Ddl) -> str:
    """The option that means the state in front of a statement."""
    return before_option(ddl.gtid, ddl.file, ddl.position)


def before_option(gtid: str | None, file: str, position: int) -> str:
    """The option that means the state in front of what stands there."""
    return f"--before {gtid}" if gtid else f"--to {file}:{position}"
