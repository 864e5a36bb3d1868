"""Tables filled on a real server, what SELECT said of them, and what the row decoder made of their binlog events.

An image goes through a Parquet file and back before it is compared: that is what the archive holds.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rowevents import TableEvents, collations, row_events
from typematrix import Case, agrees, shown

from dataflow.rows import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE, RowImages
from recovery.archive.segments import encode_parquet
from recovery.schema import Column, Table
from recovery.source_tables import read_tables
from testservers import Server

Row = tuple[tuple[Any, Any], ...]
"""For each column what `typematrix.shown` selects."""


@dataclass(frozen=True)
class Image:
    """A row image read back from Parquet: its operation, and for each column value, exact text and whether it changed."""

    op: int
    cells: tuple[tuple[Any, str | None], ...]
    changed: frozenset[int] | None


def images(decoded: RowImages, table: Table) -> list[Image]:
    """What is in the archive: columns, `_rb_exact` and `_rb_changed` through a Parquet file and back."""
    names = [f"c{i}" for i in range(len(decoded.columns))]
    for array in (*decoded.columns, decoded.changed, decoded.exact):
        array.validate(full=True)
    data = pa.table([*decoded.columns, decoded.changed, decoded.exact], names=[*names, "_rb_changed", "_rb_exact"])
    data = pq.ParquetFile(io.BytesIO(encode_parquet(data))).read()
    columns = [data.column(name).to_pylist() for name in names]
    found = []
    for i, (op, bits, exact) in enumerate(
        zip(
            decoded.op.tolist(),
            data.column("_rb_changed").to_pylist(),
            data.column("_rb_exact").to_pylist(),
            strict=True,
        )
    ):
        texts = dict(exact or ())
        assert texts.keys() <= {c.name for c in table.columns}
        cells = tuple(
            (values[i], texts.get(column.name)) for values, column in zip(columns, table.columns, strict=True)
        )
        found.append(Image(op, cells, None if bits is None else set_bits(bits)))
    return found


def set_bits(bits: bytes) -> frozenset[int]:
    return frozenset(i for i in range(8 * len(bits)) if bits[i // 8] >> i % 8 & 1)


def whole(before: Image, after: Image, table: Table) -> Image:
    """The full image behind an update_before, as FORMAT.md's SQL rebuilds it."""
    assert (before.op, after.op) == (UPDATE_BEFORE, UPDATE_AFTER)
    assert before.changed == after.changed is not None
    kept = (set(table.key_indexes) if table.key else set(range(len(table.columns)))) | before.changed
    for i, cell in enumerate(before.cells):
        assert i in kept or cell == (None, None)
    cells = tuple(cell if i in kept else after.cells[i] for i, cell in enumerate(before.cells))
    return Image(UPDATE_BEFORE, cells, before.changed)


def require_equal(image: Image, row: Row, table: Table) -> None:
    for column, (value, exact), server in zip(table.columns, image.cells, row, strict=True):
        assert agrees(column, value, exact, server), f"{column}: archive {value!r} {exact!r}, SELECT {server!r}"


@dataclass(frozen=True)
class Story:
    """A table's life: its rows after the insert and after the update, as SELECT showed them, its definition by
    information_schema, and its events."""

    inserted: list[Row]
    updated: list[Row]
    live: Table
    events: list[TableEvents]


class Run:
    """A connection that fills tables; `story` tells what became of one."""

    def __init__(self, server: Server, database: str) -> None:
        server.execute(f"CREATE DATABASE {database}")
        self.server, self.database = server, database
        self.connection = server.connect(database=database)
        self.cursor = self.connection.cursor()
        self.do("SET sql_mode = '', time_zone = '+00:00'")
        self.names = collations(server)
        self.told: dict[str, tuple[list[Row], list[Row], Table]] = {}

    def do(self, sql: str) -> None:
        self.cursor.execute(sql)

    def select(self, table: str, columns: list[Column]) -> list[Row]:
        parts = [part for column in columns for part in shown(f"`{column.name}`", column)]
        self.do(f"SELECT {', '.join(parts)} FROM {table} ORDER BY `{columns[0].name}`")
        return [tuple(zip(row[::2], row[1::2], strict=True)) for row in self.cursor.fetchall()]

    def live(self, name: str, case: Case) -> None:
        """Insert every value and NULL, give every row the next one's value, touch all rows, delete them."""
        values = [*case.values, "NULL"]
        n = len(values)
        self.do(f"CREATE TABLE {name} (id INT PRIMARY KEY, c {case.ddl} NULL, k INT NOT NULL)")
        self.do(f"INSERT INTO {name} VALUES {', '.join(f'({i}, {value}, 0)' for i, value in enumerate(values))}")
        columns = [Column("id", "int"), _kind(case), Column("k", "int")]
        inserted = self.select(name, columns)
        self.do(f"CREATE TEMPORARY TABLE other (PRIMARY KEY (id)) SELECT id, c FROM {name}")
        self.do(f"UPDATE {name} t JOIN other o ON o.id = (t.id + 1) % {n} SET t.c = o.c, t.k = 1")
        self.do("DROP TEMPORARY TABLE other")
        updated = self.select(name, columns)
        self.do(f"UPDATE {name} SET k = 2")
        self.do(f"DELETE FROM {name}")
        (live,) = read_tables(self.connection, [(self.database, name)])
        self.told[name] = (inserted, updated, live)

    def stories(self) -> dict[str, Story]:
        found = row_events(self.server, self.database, self.names, need_names=False)
        return {name: Story(*told, found[name]) for name, told in self.told.items()}


def check(story: Story, table: Table, found: list[Image]) -> None:
    """The images of a `Run.live` table against what SELECT showed."""
    n = len(story.inserted)
    touched = [(*row[:2], ("2", 1)) for row in story.updated]
    inserts, firsts, seconds, deletes = found[:n], found[n : 3 * n], found[3 * n : 5 * n], found[5 * n :]
    # An update that changes nothing but `k` is there for every row, so all have both updates.
    assert [i.op for i in found] == [INSERT] * n + [UPDATE_BEFORE, UPDATE_AFTER] * 2 * n + [DELETE] * n
    for image, row in zip(inserts, story.inserted, strict=True):
        require_equal(image, row, table)
    for i in range(n):
        for pairs, old, new in ((firsts, story.inserted, story.updated), (seconds, story.updated, touched)):
            before, after = pairs[2 * i : 2 * i + 2]
            key = after.cells[0][0]
            require_equal(whole(before, after, table), old[key], table)
            require_equal(after, _plain(new[key]), table)
            assert 2 in (after.changed or ())
            # What didn't change is the same cell; what did has another one, or the same text in other bytes.
            if 1 not in (after.changed or ()):
                assert old[key][1] == new[key][1]
    assert len({image.cells[0][0] for image in inserts}) == n
    for image in deletes:
        require_equal(image, _plain(touched[image.cells[0][0]]), table)


def _plain(row: Row) -> Row:
    return tuple((str(text) if isinstance(text, int) else text, second) for text, second in row)


def _kind(case: Case) -> Column:
    """Enough of a column to know how it is shown."""
    word = case.ddl.split("(")[0].split()[0].lower()
    if case.kind:
        return Column("c", case.kind)
    if word in ("tinytext", "text", "mediumtext", "longtext") or (word == "json" and case.flavors == {"mariadb"}):
        return Column("c", "text")
    if word in ("tinyblob", "blob", "mediumblob", "longblob"):
        return Column("c", "blob")
    return Column("c", {"point": "geometry", "boolean": "tinyint"}.get(word, word))


def follow(run: Run, table: str, steps: list[str]) -> tuple[TableEvents, list[Image], list[list[Row]]]:
    """Run statements on a table; gives its events, its images, and its rows after each step."""
    columns = shape(run, table)
    states = []
    for step in steps:
        run.do(step)
        states.append(run.select(table, columns))
    (events,) = row_events(run.server, run.database, run.names)[table]
    return events, images(events.decode(), events.table_map.table), states


def shape(run: Run, table: str) -> list[Column]:
    run.do(
        "SELECT column_name, data_type FROM information_schema.columns"
        f" WHERE table_schema = '{run.database}' AND table_name = '{table}' ORDER BY ordinal_position"
    )
    text = {"tinytext": "text", "mediumtext": "text", "longtext": "text", "point": "geometry"}
    return [Column(name, text.get(kind, kind)) for name, kind in run.cursor.fetchall()]


def in_stretches(events: TableEvents, monkeypatch: pytest.MonkeyPatch) -> RowImages:
    """Decoded three images at a time, which ends in the middle of events and before the second image of updates."""
    with monkeypatch.context() as patch:
        patch.setattr("dataflow.rows._CELLS_AT_ONCE", 1)
        patch.setattr("dataflow.rows._IMAGES_AT_LEAST", 3)
        return events.decode()


def require_same(one: RowImages, other: RowImages) -> None:
    for name in ("event", "change", "op"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    assert one.changed.equals(other.changed)
    assert one.exact.equals(other.exact)
    assert all(a.equals(b) for a, b in zip(one.columns, other.columns, strict=True))
