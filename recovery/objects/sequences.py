"""What MariaDB's sequences are made of.

The binlog has CREATE, ALTER and DROP SEQUENCE as statements; each range of values that a server reserves, each SETVAL and
each INSERT as the image of the sequence's whole row; an ALTER logs none. So a sequence is the statements that made it, in
order, with the last row in front of each and of the cut between them: INSERT or REPLACE give a sequence just that row
(ha_sequence::write_row in MariaDB's sql/ha_sequence.cc), with what its ALTERs left out of range as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from recovery.archive.actions import Segment
from recovery.quoting import quote
from recovery.schema import Table

Name = tuple[str, str]
Row: TypeAlias = tuple[int, ...]  # of COLUMNS

KIND: Final = "sequence"
COLUMNS: Final = (
    "next_not_cached_value", "minimum_value", "maximum_value", "start_value", "increment", "cache_size", "cycle_option",
    "cycle_count",
)  # fmt: skip
BETWEEN: Final = ";\n"  # between the statements of a definition
_INCREMENT, _ROUND = COLUMNS.index("increment"), COLUMNS.index("cycle_count")


def of_sequences(schemas: Mapping[str, Table]) -> frozenset[str]:
    """The ids of the definitions that rows of sequences have."""
    return frozenset(i for i, t in schemas.items() if not t.key and tuple(c.name for c in t.columns) == COLUMNS)


# --- what a sequence is made of ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statement:
    """A statement around the sequence's name: `before` ends in a space."""

    before: str
    after: str

    def of(self, name: Name) -> str:
        return f"{self.before}{quote(*name)}{self.after}"


def _begun(row: Row) -> int:
    """The next value, or the sequence's first if it is in front of that."""
    value, least, most = row[:3]
    return min(value, most) if row[_INCREMENT] < 0 else max(value, least)


@dataclass(frozen=True)
class Held:
    """The row that it has here."""

    row: Row

    def of(self, name: Name) -> str:
        """REPLACE, for myloader 1.x takes a statement that begins with INSERT for a table's rows. A value in front of the
        sequence's first one, which SETVAL with a new round may give it, is refused there
        (check_and_adjust in MariaDB's sql/sql_sequence.cc); such a one is set in the same way."""
        value, *form, rounds = self.row
        begun = _begun(self.row)
        again = begun != value and rounds > 0
        numbers = (begun, *form, rounds - again)
        written = f"REPLACE INTO {quote(*name)} VALUES ({', '.join(map(str, numbers))})"
        return f"{written}{BETWEEN}DO SETVAL({quote(*name)}, {value}, 0, {rounds})" if again else written


@dataclass(frozen=True)
class Stretch:
    """Its row images in (low_seq, high_seq] were logged under this name. segments: that may hold them."""

    name: Name
    low_seq: int
    high_seq: int
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Doubt:
    """A statement that may have changed it. A row image behind it says all that it could."""

    why: str


Part: TypeAlias = Statement | Held | Stretch | Doubt


@dataclass(frozen=True)
class LiveSequence:
    """problem: why it can't be made again; else "". Under its name at the cut."""

    db: str
    name: str
    parts: tuple[Part, ...]
    problem: str = ""

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        return tuple(p for p in self.parts if isinstance(p, Stretch))

    @property
    def label(self) -> str:
        return f"{KIND} `{self.db}.{self.name}`"

    def text(self) -> str:
        """Its statements without row images, for a person."""
        return BETWEEN.join(p.of((self.db, self.name)) for p in self.parts if isinstance(p, Statement | Held))


@dataclass(frozen=True)
class Made:
    """The statements that make a sequence, under its name. doubt: why its values may not be these; else "". set_back:
    whether row images behind its furthest value look as if a statement had put them there."""

    statements: tuple[str, ...]
    doubt: str = ""
    set_back: bool = False


def made(live: LiveSequence, images: Mapping[Stretch, Sequence[Row]]) -> Made:
    """images: of each stretch, in the order in which they were logged."""
    name = live.db, live.name
    found: list[str] = []
    row: Row | None = None
    doubt, back = "", False
    for part in live.parts:
        if isinstance(part, Held):
            row = part.row
        elif isinstance(part, Doubt):
            doubt = doubt or part.why
        elif isinstance(part, Stretch):
            rows = images.get(part, ())
            if rows:
                known = [row] if row is not None and not doubt else []
                # A snapshot's row may have been read behind some of them.
                newer = rows[rows.index(known[0]) :] if known and known[0] in rows else [*known, *rows]
                row, doubt, back = furthest([*known, *rows]), "", set_back(newer)
        else:
            if row is not None:
                found += Held(row).of(name).split(BETWEEN)
                row = None
            found.append(part.of(name))
            back = False
    if row is not None:
        found += Held(row).of(name).split(BETWEEN)
    return Made(tuple(found), doubt, back)


def furthest(rows: Sequence[Row]) -> Row:
    """The state behind these row images, between which no DDL ran. Not always the last one: a statement logs the range that
    it reserved when it ends, and others may have reserved theirs since. Values go one way, rounds upwards, unless a
    statement puts another row there (`set_back`): then numbers are skipped, and none is given twice."""
    last = rows[-1]
    same = [row for row in rows if row[1:_ROUND] == last[1:_ROUND]]
    return max(reversed(same), key=_distance)


def set_back(rows: Sequence[Row]) -> bool:
    """Whether row images behind the last furthest one were not logged late: each of those continues another image by one
    range and is there once, an INSERT or REPLACE into the sequence is not."""
    seen: set[Row] = set()
    reserved = {_after(row) for row in rows}
    most, found = rows[0], False
    for row in rows:
        if _distance(row) > _distance(most):
            most, found = row, False
        elif row != most or row in seen:
            found = found or row in seen or row not in reserved
        seen.add(row)
    return found


def _after(row: Row) -> Row:
    """The row once a range has been reserved."""
    cache, increment = row[COLUMNS.index("cache_size")], row[_INCREMENT]
    return (row[0] + max(cache, 1) * increment, *row[1:])


def _distance(row: Row) -> tuple[int, int]:
    """Behind its last value a sequence has ended, however far."""
    value, least, most = row[:3]
    return row[_ROUND], -max(value, least - 1) if row[_INCREMENT] < 0 else min(value, most + 1)
