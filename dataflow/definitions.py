"""Which definition a table had at a place in the binlog, where TABLE_MAP events name no columns.

With binlog_row_metadata=MINIMAL (MySQL's default) or NO_LOG (MariaDB's) a TABLE_MAP proves types and not names: two INT
columns swapped look the same. A reading of the live schema tells the names, but only of its own moment. Promises: a
definition is given out only where facts prove it, else the answer is that it can't be proved, never a guess.

The proof. A row event of a table at p holds the definition of p, and every DDL before p had taken effect when that row was
written (metadata locks: the DDL's end waits for none, the row waits for the DDL). So a reading that began after the event
had arrived shows the definition of some moment in (p, h], where h is the binlog's end after the reading; and with no DDL on
the table in (p, h] that is the definition of p. From there it holds up to the next DDL that may touch the table. Servers
write DDL to the binlog before readers of the schema can see its effect, or keep readers out meanwhile (MySQL commits its
dictionary with the binlog's group commit; MariaDB holds the exclusive metadata lock over both), so h is never too early.

`Ledger` is pure: facts in, decision out. dataflow/live_schema.py asks the server and looks ahead in its binlog.
DDL that the source keeps out of its binlog (sql_log_bin=0) is beyond any proof; `misfit` finds it when types changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from dataflow import tablemap as tm
from dataflow.tablemap import TableMap, WireColumn
from recovery.archive.actions import Ddl
from recovery.archive.state import ArchiveState
from recovery.gtid import binlog_order
from recovery.schema import MARIADB_TEXT_TYPES, Column, Table

Name: TypeAlias = tuple[str, str]
Place: TypeAlias = tuple[int, int]
"""(number of the binlog file, offset), as recovery.gtid.binlog_order gives it."""

# They empty or check a table and leave its columns as they are.
_HARMLESS = frozenset({"TRUNCATE TABLE"})


@dataclass(frozen=True)
class Reading:
    """What the live server said of some tables (by name; one that is missing doesn't exist there), and where its binlog
    ended afterwards. creates: SHOW CREATE TABLE's texts, if they were asked for. elsewhere: another server than the stream's
    answered."""

    tables: Mapping[Name, Table]
    high: Place
    creates: Mapping[Name, str] = field(default_factory=dict)
    elsewhere: bool = False


@dataclass(frozen=True)
class Known:
    table: Table


@dataclass(frozen=True)
class Ask:
    """A reading is needed, begun now."""


@dataclass(frozen=True)
class Wait:
    """The binlog must be known up to this place first."""

    until: Place


@dataclass(frozen=True)
class Unproved:
    """No reading can settle it any more. ddl: what came between the rows and the reading; None: the table isn't there."""

    ddl: Ddl | None


Decision: TypeAlias = Known | Ask | Wait | Unproved


class Ledger:
    """The definitions that hold at one place of a stream, the *current* place, and the DDL that is known to come.

    known: proved at `at`, such as the archive's own. The current place moves with `cross`.
    """

    def __init__(self, at: Place, known: Mapping[Name, Table] | None = None) -> None:
        self.horizon = at  # every DDL that starts before it has been seen
        self.here: Place = (0, 0)  # the DDL that was crossed last
        self._known: dict[Name, Table] = {folded(name): table for name, table in (known or {}).items()}
        self._ahead: list[Ddl] = []

    def see(self, ddls: Iterable[Ddl], up_to: Place) -> None:
        """The DDL that the binlog holds before `up_to`, in order; what is known already may come again."""
        for ddl in ddls:
            # One in a transaction that isn't whole yet starts behind the horizon and comes again, maybe when it is crossed.
            if place(ddl) >= self.horizon and place(ddl) > self.here:
                self._ahead.append(ddl)
        self.horizon = max(self.horizon, up_to)

    def forget_ahead(self, at: Place) -> None:
        """What was seen of the binlog behind `at` doesn't hold: the stream goes on from another server."""
        self._ahead = []
        self.horizon, self.here = at, (0, 0)

    def cross(self, ddl: Ddl) -> None:
        """Decoding has come to this DDL and goes on behind it."""
        self.here = place(ddl)
        self._ahead = [d for d in self._ahead if place(d) > self.here]
        for name in [n for n in self._known if touches(ddl, n)]:
            del self._known[name]

    def learn(self, name: Name, table: Table) -> None:
        """A definition that is proved at the current place by other means."""
        self._known[folded(name)] = table

    def decide(self, name: Name, reading: Reading | None = None) -> Decision:
        """The definition of a table at the current place, of which a row event has arrived. reading: begun after that."""
        found = self._known.get(folded(name))
        if found is not None:
            return Known(found)
        if reading is None:
            return Ask()
        if reading.high > self.horizon:
            return Wait(reading.high)
        for ddl in self._ahead:
            if place(ddl) < reading.high and touches(ddl, name):
                return Unproved(ddl)
        table = reading.tables.get(name)
        if table is None:
            return Unproved(None)
        self.learn(name, table)
        return Known(table)


def place(ddl: Ddl) -> Place:
    return binlog_order(ddl.file, ddl.position)


def touches(ddl: Ddl, name: Name) -> bool:
    """Whether a DDL may change the table's columns or key. Names are compared without case: with lower_case_table_names a
    statement and a TABLE_MAP may write one differently."""
    if ddl.verb in _HARMLESS:
        return False
    if ddl.tables is None:
        return True
    db, table = folded(name)
    return any(d.lower() == db and t.lower() in ("", table) for d, t in ddl.tables)


def folded(name: Name) -> Name:
    return name[0].lower(), name[1].lower()


def archived(state: ArchiveState) -> dict[Name, Table]:
    """The definitions that an archive proves at its newest checkpoint: of a table's newest segment or baseline, if no DDL
    since may have touched it and nothing of the stream is missing since."""
    newest: dict[Name, tuple[int, Table]] = {}
    for segment in state.segments:
        name = (segment.db, segment.table)
        if name not in newest or segment.last_seq >= newest[name][0]:
            newest[name] = segment.last_seq, state.schemas[segment.schema_id]
    last_gap = max((g.after_seq for g in state.holes), default=-1)
    found = {}
    for name, (seq, table) in newest.items():
        # A DDL in the rows' own transaction stands before them: CREATE TABLE .. SELECT.
        if seq > last_gap and not any(d.seq > seq and touches(d, name) for d in state.ddls):
            found[name] = table
    return found


def needs_proof(logged: TableMap, flavor: str) -> bool:
    """Whether a TABLE_MAP leaves open what its columns are. MariaDB's UUID and INET look like BINARY even with names."""
    if not logged.named:
        return True
    return flavor == "mariadb" and any(
        c.type == "binary" and c.octets in _OCTETS.values() for c in logged.table.columns
    )


# --- the binlog's types against a definition ----------------------------------------------------------------------------

_STRINGS = frozenset({"char", "binary"}) | MARIADB_TEXT_TYPES
_BINARY = frozenset({"binary", "varbinary", "blob"}) | MARIADB_TEXT_TYPES
_OCTETS = {"uuid": 16, "inet6": 16, "inet4": 4}


def misfit(logged_map: TableMap, table: Table) -> str | None:
    """Why rows of this TABLE_MAP can't have been written with this definition; None if they can."""
    columns = logged_map.table.columns
    behind = logged_map.wire[len(table.columns) :]
    if logged_map.hides and not logged_map.named and behind and all(w.type == tm.LONGLONG for w in behind):
        columns = columns[: len(table.columns)]
    if len(columns) != len(table.columns):
        return f"the binlog has {len(columns)} columns and the schema {len(table.columns)}"
    signs = any(c.unsigned for c in columns)  # then the event has signs, and they count
    for i, (logged, wire, live) in enumerate(zip(columns, logged_map.wire, table.columns, strict=False)):
        if not _same_type(logged, wire, live) or (signs and logged.unsigned != live.unsigned):
            return (
                f"column `{live.name}` is `{_described(live)}` in the schema and `{_described(logged)}` in the binlog"
            )
        if logged.name not in (live.name, f"@{i + 1}"):
            return f"column `{logged.name}` is called `{live.name}` in the schema"
        # Of MariaDB's hidden row_start and row_end the schema doesn't say it.
        if logged.nullable != live.nullable and not live.invisible:
            return f"column `{live.name}` differs in NOT NULL"
    return None


def unsure_label(table: Table) -> str | None:
    """The column with a label that a live server may not have shown as it is: the servers print labels through utf8mb3, with
    `?` for characters outside the basic plane."""
    return next((c.name for c in table.columns if any("?" in label for label in c.labels)), None)


def _same_type(logged: Column, wire: WireColumn, live: Column) -> bool:
    if logged.charset and not logged.charset.startswith("collation ") and logged.charset != live.charset:
        return False
    if logged.type in _BINARY and live.type not in _BINARY:
        return False
    if wire.type == tm.STRING:
        return live.type in _STRINGS and wire.octets == _OCTETS.get(live.type, live.octets)
    if wire.type in (tm.VARCHAR, tm.VARCHAR_COMPRESSED):
        return live.type in ("varchar", "varbinary") and wire.octets == live.octets
    if wire.type in (tm.BLOB, tm.BLOB_COMPRESSED):
        return live.type in ("text", "blob")
    if live.type == "enum":
        return logged.type == "enum" and wire.length_bytes == (1 if len(live.labels) < 256 else 2)
    if live.type == "set":
        # Field_set: 1, 2, 3, 4 or 8 bytes.
        needed = (len(live.labels) + 7) // 8
        return logged.type == "set" and wire.length_bytes == (needed if needed <= 4 else 8)
    if logged.fsp not in (None, live.fsp):  # MariaDB's old temporal types don't say it
        return False
    return (logged.type, logged.precision, logged.scale) == (live.type, live.precision, live.scale)


def _described(column: Column) -> str:
    numbers = [n for n in (column.octets, column.precision, column.scale, column.fsp) if n is not None]
    size = f"({','.join(map(str, numbers))})" if numbers else ""
    return f"{column.type}{size}{' unsigned' if column.unsigned else ''}"
