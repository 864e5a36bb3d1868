"""Which definition a table had at a place in the binlog: the decisions, from facts alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import handmade as hm
import pytest

from dataflow import tablemap as tm
from dataflow.definitions import (
    Ask,
    Known,
    Ledger,
    Name,
    Place,
    Reading,
    Unproved,
    Wait,
    archived,
    misfit,
    touches,
)
from dataflow.live_schema import Definitions
from dataflow.tablemap import TableMap, WireColumn
from recovery.archive.actions import Checkpoint, Ddl
from recovery.errors import SourceMisconfigured
from recovery.schema import Column, Table

T: Name = ("shop", "t")
AB = hm.table("shop", "t", hm.column("id"), hm.column("a"), hm.column("b"))
BA = hm.table("shop", "t", hm.column("id"), hm.column("b"), hm.column("a"))


def ddl(position: int, *tables: Name, verb: str = "ALTER TABLE", unknown: bool = False) -> Ddl:
    return Ddl(1, None, "binlog.000001", position, 0, "shop", "ALTER ..", verb, None if unknown else tables)


def at(position: int) -> Place:
    return (1, position)


def test_a_reading_counts_once_the_binlog_up_to_its_end_is_known_and_holds_no_ddl() -> None:
    ledger = Ledger(at(100))
    assert ledger.decide(T) == Ask()
    reading = Reading({T: AB}, at(500))
    assert ledger.decide(T, reading) == Wait(at(500))
    ledger.see([ddl(600, T)], at(700))
    assert ledger.decide(T, reading) == Known(AB)
    assert ledger.decide(T) == Known(AB)
    ledger.cross(ddl(600, T))
    assert ledger.decide(T) == Ask()


@pytest.mark.parametrize(
    "between",
    [ddl(300, T), ddl(499, ("x", "y"), T), ddl(300, unknown=True), ddl(300, ("shop", "")), ddl(300, ("SHOP", "T"))],
)
def test_ddl_between_the_row_and_the_reading_unproves_it(between: Ddl) -> None:
    ledger = Ledger(at(100))
    ledger.see([between], at(500))
    assert ledger.decide(T, Reading({T: BA}, at(500))) == Unproved(between)
    # Behind it the next reading is as good as any.
    ledger.cross(between)
    assert ledger.decide(T) == Ask()
    assert ledger.decide(T, Reading({T: BA}, at(500))) == Known(BA)


@pytest.mark.parametrize(
    "beside",
    [ddl(300, ("shop", "u")), ddl(300), ddl(500, T), ddl(300, T, verb="TRUNCATE TABLE"), ddl(300, ("other", ""))],
)
def test_ddl_elsewhere_does_not(beside: Ddl) -> None:
    ledger = Ledger(at(100))
    ledger.see([beside], at(600))
    assert ledger.decide(T, Reading({T: AB}, at(500))) == Known(AB)


def test_a_table_that_the_server_does_not_show() -> None:
    ledger = Ledger(at(100))
    assert ledger.decide(T, Reading({}, at(100))) == Unproved(None)


def test_what_the_archive_knows_holds_up_to_the_next_ddl() -> None:
    ledger = Ledger(at(100), {T: AB})
    ledger.see([ddl(200, ("shop", "u")), ddl(300, T)], at(400))
    ledger.cross(ddl(200, ("shop", "u")))
    assert ledger.decide(T, Reading({T: BA}, at(900))) == Known(AB)
    ledger.cross(ddl(300, T))
    assert ledger.decide(T) == Ask()


def test_ddl_that_comes_again_is_not_ahead_of_itself() -> None:
    """A statement in a transaction that isn't whole lies behind the horizon; a look-ahead sees it once more."""
    ledger = Ledger(at(100))
    create = ddl(150, T, verb="CREATE TABLE")
    ledger.see([create], at(100))
    ledger.cross(create)
    ledger.see([create], at(500))
    assert ledger.decide(T, Reading({T: AB}, at(500))) == Known(AB)


def test_names_are_compared_without_case() -> None:
    assert touches(ddl(1, ("Shop", "T")), ("shop", "t"))
    assert touches(ddl(1, ("shop", "t")), ("SHOP", "T"))
    assert not touches(ddl(1, ("shop", "tt")), T)


# --- what an archive proves ---------------------------------------------------------------------------------------------


def test_the_archive_proves_the_schema_of_the_newest_segment(tmp_path: Path) -> None:
    archive = hm.Archive(tmp_path)
    archive.window(hm.insert(AB, id=1, a=1, b=2))
    assert archived(archive.state) == {T: AB}
    archive.window([], ddls=[archive.ddl(2, "ALTER TABLE t", [T])])
    assert archived(archive.state) == {}
    archive.window(hm.insert(BA, id=2, a=1, b=2))
    assert archived(archive.state) == {T: BA}
    archive.window([], ddls=[archive.ddl(4, "CREATE VIEW", []), archive.ddl(4, "ALTER TABLE u", [("shop", "u")])])
    assert archived(archive.state) == {T: BA}
    archive.window([], ddls=[archive.ddl(5, "EXOTIC", None)])
    assert archived(archive.state) == {}


def test_nothing_is_proved_across_a_gap(tmp_path: Path) -> None:
    archive = hm.Archive(tmp_path)
    archive.window(hm.insert(AB, id=1, a=1, b=2))
    archive.commit(archive.gap(1, 5000))
    assert archived(archive.state) == {}


# --- against a model of a server ----------------------------------------------------------------------------------------


class Model:
    """A server that writes row events and DDL on two tables, ten bytes each. A DDL takes effect for readers of the schema
    some time after it is in the binlog, at the latest when the next row of a table that it touched is written."""

    names: Sequence[Name] = (("shop", "t"), ("shop", "u"))

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.log: list[Name | Ddl] = []  # rows by table, DDL
        self.logged = dict.fromkeys(self.names, 0)  # definitions as the binlog has them: a version each
        self.visible = dict.fromkeys(self.names, 0)
        self.truth: list[int] = []  # of rows: the version that they were written with
        self.readings = 0

    def write(self) -> None:
        name = self.random.choice(self.names)
        if self.random.random() < 0.25:
            touched = [name] if self.random.random() < 0.8 else list(self.names)
            self.log.append(ddl(10 * len(self.log), *touched))
            self.truth.append(-1)
            for each in touched:
                self.logged[each] += 1
        else:
            self.visible[name] = self.logged[name]
            self.log.append(name)
            self.truth.append(self.logged[name])

    def settle(self) -> None:
        for name in self.names:
            if self.random.random() < 0.5:
                self.visible[name] = self.logged[name]

    @property
    def end(self) -> Place:
        return at(10 * len(self.log))

    def between(self) -> None:
        for _ in range(self.random.choice((0, 0, 0, 0, 1, 3))):
            self.write()
        self.settle()

    def read(self, names: Sequence[Name]) -> Reading:
        self.readings += 1
        tables = {}
        for name in names:
            self.between()
            tables[name] = version_table(name, self.visible[name])
        self.between()
        return Reading(tables, self.end)

    def ddls(self, after: Checkpoint, until: Place) -> tuple[list[Ddl], Checkpoint]:
        seen = min(len(self.log), until[1] // 10 + self.random.choice((0, 0, 4)))
        found = [d for d in self.log[after.position // 10 : seen] if isinstance(d, Ddl)]
        return found, checkpoint(10 * seen)


def version_table(name: Name, version: int) -> Table:
    return hm.table(*name, hm.column("id"), hm.column(f"v{version}"))


def checkpoint(position: int) -> Checkpoint:
    return Checkpoint(0, "binlog.000001", position, "", 0, 0)


def unnamed(of: Table) -> TableMap:
    columns = tuple(replace(c, name=f"@{i + 1}", nullable=c.nullable) for i, c in enumerate(of.columns))
    return TableMap(0, replace(of, columns=columns, key=()), (WireColumn(tm.LONG),) * len(columns), named=False)


def test_no_row_ever_gets_another_definition() -> None:
    """Whatever the order of rows, DDL, readings and pieces: a definition that is given out is the row's own."""
    results = [follow(random.Random(seed)) for seed in range(500)]
    assert sum(proved for proved, _ in results) > 15_000
    assert sum(refused for _, refused in results) > 1_000


def follow(source: random.Random) -> tuple[int, int]:
    """One history: how many rows got a definition, and how many none."""
    model = Model(source)
    for _ in range(source.randrange(10)):
        model.write()
    read_to, proved, refused = 0, 0, 0
    definitions = Definitions(model, checkpoint(0), {name: version_table(name, 0) for name in model.names[:1]})
    while read_to < 60:
        for _ in range(source.randrange(4)):
            model.write()
        model.settle()
        piece_end = min(len(model.log), read_to + source.randint(1, 8))
        piece = model.log[read_to:piece_end]
        definitions.arrived([d for d in piece if isinstance(d, Ddl)], checkpoint(10 * piece_end))
        for n, what in enumerate(piece, read_to):
            if isinstance(what, Ddl):
                definitions.cross(what)
                continue
            try:
                found = definitions.table(unnamed(version_table(what, 0)), f"binlog.000001:{10 * n}")
            except SourceMisconfigured:
                refused += 1
                later = [d for d in model.log[n:] if isinstance(d, Ddl) and touches(d, what)]
                assert later, "refused without a DDL"
            else:
                proved += 1
                assert found == version_table(what, model.truth[n])
        read_to = piece_end
    return proved, refused


def test_one_reading_serves_all_tables_of_a_run_and_all_rows_up_to_the_next_ddl() -> None:
    model = Model(random.Random(1))
    model.log = [model.names[0], model.names[1], model.names[0]]
    model.between = lambda: None  # type: ignore[method-assign]
    definitions = Definitions(model, checkpoint(0), {})
    definitions.arrived([], checkpoint(30))
    for name in (*model.names, *model.names):
        definitions.table(unnamed(version_table(name, 0)), "x", also=model.names)
    assert model.readings == 1


def test_a_stream_that_goes_on_from_another_server_forgets_what_was_ahead() -> None:
    ledger = Ledger(at(1000))
    ledger.see([ddl(1500, T)], at(2000))
    ledger.forget_ahead(at(50))
    ledger.see([ddl(60, ("shop", "u"))], at(100))
    assert ledger.decide(T, Reading({T: AB}, at(100))) == Known(AB)


# --- types --------------------------------------------------------------------------------------------------------------


STRING16, VARCHAR80 = WireColumn(tm.STRING, octets=16), WireColumn(tm.VARCHAR, octets=80)


def one(wire: WireColumn, logged: Column, live: Column) -> str | None:
    return misfit(TableMap(0, Table("d", "t", (logged,)), (wire,), named=False), Table("d", "t", (live,)))


@pytest.mark.parametrize(
    ("wire", "logged", "live", "fits"),
    [
        (WireColumn(tm.LONG), Column("@1", "int"), Column("a", "int", unsigned=True), True),  # NO_LOG: no signs
        (WireColumn(tm.LONG), Column("@1", "int", unsigned=True), Column("a", "int"), False),
        (WireColumn(tm.LONG), Column("@1", "int"), Column("a", "bigint"), False),
        (WireColumn(tm.LONG), Column("@1", "int"), Column("a", "int", nullable=False), False),
        (STRING16, Column("@1", "char", octets=16), Column("a", "uuid"), True),
        (STRING16, Column("@1", "binary", octets=16), Column("a", "inet6"), True),
        (STRING16, Column("@1", "char", octets=16), Column("a", "inet4"), False),
        (STRING16, Column("@1", "binary", octets=16), Column("a", "char", octets=16, charset="x"), False),
        (VARCHAR80, Column("@1", "varchar", octets=80), Column("a", "varchar", octets=80, charset="x"), True),
        (VARCHAR80, Column("@1", "varchar", octets=80), Column("a", "varchar", octets=60), False),
        (VARCHAR80, Column("@1", "varchar", charset="latin1"), Column("a", "varchar", octets=80, charset="x"), False),
        (WireColumn(tm.BLOB), Column("@1", "text"), Column("a", "blob"), True),
        (WireColumn(tm.BLOB), Column("@1", "text"), Column("a", "json"), False),
        (WireColumn(tm.ENUM, length_bytes=1), Column("@1", "enum"), Column("a", "enum", labels=("x",) * 255), True),
        (WireColumn(tm.ENUM, length_bytes=1), Column("@1", "enum"), Column("a", "enum", labels=("x",) * 256), False),
        (WireColumn(tm.SET, length_bytes=8), Column("@1", "set"), Column("a", "set", labels=("x",) * 40), True),
        (WireColumn(tm.SET, length_bytes=2), Column("@1", "set"), Column("a", "set", labels=("x",) * 8), False),
        (WireColumn(tm.ENUM, length_bytes=1), Column("@1", "enum"), Column("a", "set", labels=("x",)), False),
        (WireColumn(tm.NEWDECIMAL), Column("@1", "decimal", scale=2), Column("a", "decimal", scale=3), False),
        (WireColumn(tm.DATETIME2), Column("@1", "datetime", fsp=3), Column("a", "datetime", fsp=0), False),
        (WireColumn(tm.BIT), Column("@1", "bit", precision=3), Column("a", "bit", precision=3), True),
    ],
)  # fmt: skip
def test_types_that_cannot_be_the_rows_own_are_found(
    wire: WireColumn, logged: Column, live: Column, fits: bool
) -> None:
    assert (one(wire, logged, live) is None) == fits


def test_another_number_of_columns_is_found() -> None:
    assert misfit(unnamed(AB), hm.table("shop", "t", hm.column("id"))) is not None
    definitions = Definitions(Model(random.Random(1)), checkpoint(0), {T: AB})
    with pytest.raises(SourceMisconfigured, match=r"`shop\.t` at binlog\.000001:70 .* 1 columns and the schema 3"):
        definitions.table(unnamed(hm.table("shop", "t", hm.column("id"))), "binlog.000001:70")
