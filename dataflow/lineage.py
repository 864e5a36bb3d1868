"""How tables came to be what they are: the CREATE statement that stood at some place, and the DDL since.

`Lineage` remembers it while decoding goes on; `Scratch` builds a table from it on an empty server, where the live schema
can't settle the table's columns any more (recovery/scratch_server.py). Promises: what can't be replayed raises, and nothing
is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from dataflow.definitions import Name, Place, folded, place, touches
from recovery.archive.actions import Ddl
from recovery.archive.state import ArchiveState
from recovery.config import ServerSettings
from recovery.errors import RowbackError, SourceMisconfigured
from recovery.gtid import binlog_order
from recovery.quoting import quote
from recovery.schema import Table
from recovery.scratch_server import make_database, scratch_server
from recovery.source import Connection, fetch
from recovery.source_tables import read_tables

Step: TypeAlias = tuple[Place, str, str]
"""(place, default database, statement)"""
_HINT: Final = "Let the binlog name the columns instead: `SET GLOBAL binlog_row_metadata = FULL` on the source."


@dataclass
class _Origin:
    """create: SHOW CREATE TABLE's text as of `at`; None if the first statement of `since` makes the table."""

    name: Name
    at: Place
    create: str | None
    since: list[Ddl]


class Lineage:
    def __init__(self) -> None:
        self._origins: dict[Name, _Origin] = {}

    @staticmethod
    def archived(state: ArchiveState) -> Lineage:
        """What an archive's snapshots and DDL say, at its newest checkpoint. Nothing after a failover: positions of two
        servers can't be put in order."""
        lineage = Lineage()
        if state.failovers:
            return lineage
        last_gap = max((binlog_order(g.from_file, g.from_position) for g in state.holes), default=(0, 0))
        for snapshot in state.snapshots:
            at = binlog_order(snapshot.high.file, snapshot.high.position)
            # A synthetic snapshot may have the user's CREATE TABLE with DDL behind it; that DDL comes below.
            for baseline in snapshot.baselines if at >= last_gap and snapshot.synthetic is None else ():
                lineage.read((baseline.db, baseline.table), baseline.create_statement, at)
        for ddl in state.ddls:
            if place(ddl) >= last_gap:
                lineage.cross(ddl)
        return lineage

    def read(self, name: Name, create: str, at: Place) -> None:
        """The table's CREATE statement at a place; what was known before isn't needed any more."""
        self._origins[folded(name)] = _Origin(name, at, create, [])

    def cross(self, ddl: Ddl) -> None:
        """The stream goes past this statement."""
        here = place(ddl)
        if ddl.verb == "CREATE TABLE" and ddl.tables:
            known = self._origins.get(folded(ddl.tables[0]))
            if known is None or known.at <= here:
                self._origins[folded(ddl.tables[0])] = _Origin(ddl.tables[0], here, None, [])
        for name in ddl.tables or ():
            if name[1] and folded(name) not in self._origins:  # a renamed table goes on under this name
                self._origins[folded(name)] = _Origin(name, here, None, [])
        for origin in self._origins.values():
            if origin.at <= here and touches(ddl, origin.name):
                origin.since.append(ddl)

    def steps(self, name: Name) -> list[Step]:
        """The statements that build a table as it is at the current place, with the tables that they name, in order; none if
        nothing is known of it."""
        wanted, queue = {folded(name)}, [folded(name)]
        found: dict[tuple[Place, str, str], Step] = {}
        while queue:
            origin = self._origins.get(queue.pop())
            if origin is None:
                continue
            if origin.create is not None:
                found[origin.at, *origin.name] = (origin.at, origin.name[0], origin.create)
            for ddl in origin.since:
                found[place(ddl), "", ""] = (place(ddl), ddl.default_db, ddl.statement)
                new = {folded(t) for t in ddl.tables or ()} - wanted
                wanted |= new
                queue.extend(new)
        return [found[key] for key in sorted(found)]

    def spelt_out(self, name: Name) -> bool:
        """Whether the table's beginning is known with every default written out, as SHOW CREATE TABLE does."""
        origin = self._origins.get(folded(name))
        return origin is not None and origin.create is not None


class Scratch:
    """An empty server of the source's kind and version, on which DDL is replayed."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings

    def build(self, name: Name, steps: list[Step]) -> Table:
        """The table that these statements make. Raises SourceMisconfigured, saying what didn't work."""
        with scratch_server(self._settings) as connection:
            return self._replay(connection, name, steps)

    def _replay(self, connection: Connection, name: Name, steps: list[Step]) -> Table:
        for at, database, statement in steps:
            try:
                for needed in dict.fromkeys((name[0], database)):
                    make_database(connection, needed)
                if database:
                    fetch(connection, f"USE {quote(database)}")
                fetch(connection, statement)
            except RowbackError as error:
                raise SourceMisconfigured(
                    f"the DDL of binlog file {at[0]}, position {at[1]}, can't be replayed on the scratch server: "
                    f"{error.message}",
                    hint=_HINT,
                ) from error
        found = read_tables(connection, [name])
        if not found:
            raise SourceMisconfigured(
                f"its DDL, replayed on the scratch server, doesn't make the table `{name[0]}.{name[1]}`", hint=_HINT
            )
        return found[0]


def charsets_proved(logged: Table, built: Table) -> bool:
    """Whether the binlog itself says every character set that a CREATE TABLE may have left to a default."""
    pairs = zip(logged.columns, built.columns, strict=False)
    return all(live.charset is None or log.charset == live.charset for log, live in pairs)
