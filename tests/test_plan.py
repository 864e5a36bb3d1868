"""Targets and the planner: which snapshot and segments serve a target, and what is said when none does.

Archives here are built by hand (tests/handmade.py): transaction n has the GTID UUID:n, bytes 1000n..1000n+900 of
binlog.000001 and the time T0 + n seconds.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from handmade import ITEMS, ORDERS, SECOND, T0, UUID, Archive, column, delete, insert, table

from recovery.archive.actions import Checkpoint, SchemaObject, Synthetic
from recovery.archive.state import EMPTY
from recovery.errors import (
    ArchiveDamaged,
    ArchiveMissing,
    ConfigError,
    DdlInRange,
    NotComputable,
    RowbackError,
    TargetOutsideCoverage,
    UnknownTable,
)
from recovery.marks import locate_snapshot
from recovery.near import near_names
from recovery.planning import plan_for
from recovery.restore_plan import RestorePlan
from recovery.schema import Table
from recovery.scope import of_databases, split_patterns
from recovery.target import Target, parse_target, resolve

CREATE = "CREATE TABLE `x` (`id` int)"
KEYLESS = table("shop", "bag", column("a"), key=())


def filled(root: Path, flavor: str = "mysql", gtids: bool = True, windows: int = 4) -> Archive:
    """`windows` commits of five transactions each; every transaction writes orders, the even ones items too."""
    archive = Archive(root, flavor, gtids)
    for w in range(windows):
        seqs = range(5 * w + 1, 5 * w + 6)
        archive.window(
            *(insert(ORDERS, id=n, v="x") + (insert(ITEMS, 1, id=n, n=n) if n % 2 == 0 else []) for n in seqs)
        )
    return archive


def snap(archive: Archive, name: str, low: int, high: int, *tables: Table, mode: str | None = None) -> None:
    baselines = [archive.baseline(name, t, [], CREATE) for t in tables or (ORDERS, ITEMS)]
    archive.snapshot(name, archive.mark(low), archive.mark(high), *baselines, mode=mode)


def planned(archive: Archive, to: str, *tables: str, exclude: tuple[str, ...] = ()) -> RestorePlan:
    return plan_for(archive.store, archive.state, to, tables, exclude)


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latest", Target("latest", "latest")),
        ("2026-01-01 00:00:07", Target("time", "2026-01-01 00:00:07", time_us=T0 + 7 * SECOND)),
        (
            "2026-01-01T01:00:07.000001+01:00",
            Target("time", "2026-01-01T01:00:07.000001+01:00", time_us=T0 + 7_000_001),
        ),
        ("2026-01-01T00:00:07Z", Target("time", "2026-01-01T00:00:07Z", time_us=T0 + 7 * SECOND)),
        (f"{UUID.upper()}:7", Target("gtid", f"{UUID.upper()}:7", gtid=f"{UUID}:7")),
        (f"{UUID}:nightly:7", Target("gtid", f"{UUID}:nightly:7", gtid=f"{UUID}:nightly:7")),
        ("0-1-7", Target("gtid", "0-1-7", gtid="0-1-7")),
        ("my.bin-log.000012:345", Target("position", "my.bin-log.000012:345", file="my.bin-log.000012", position=345)),
    ],
)
def test_parse(text: str, expected: Target) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30 00:00:00", "binlog.000001", f"{UUID}:1-5", "12:34"])
def test_a_target_of_no_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no time, GTID or binlog position"):
        parse_target(text)


@pytest.mark.parametrize(
    ("to", "seq"),
    [
        ("latest", 20),
        ("2026-01-01 00:00:00", 0),
        ("2026-01-01 00:00:00.999999", 0),
        ("2026-01-01 00:00:05", 5),
        ("2026-01-01 00:00:05.999999", 5),
        ("2026-01-01 00:00:12.5", 12),
        ("2026-01-01 00:00:20", 20),
        (f"{UUID}:1", 1),
        (f"{UUID}:5", 5),
        (f"{UUID}:6", 6),
        (f"{UUID}:20", 20),
        ("binlog.000001:900", 0),
        ("binlog.000001:1899", 0),
        ("binlog.000001:1900", 1),
        ("binlog.000001:5900", 5),
        ("binlog.000001:6000", 5),
        ("binlog.000001:6899", 5),
        ("binlog.000001:20900", 20),
    ],
)
def test_resolve(tmp_path: Path, to: str, seq: int) -> None:
    archive = filled(tmp_path)
    cut = resolve(archive.store, archive.state, parse_target(to))
    assert (cut.seq, cut.position, cut.gtid) == (seq, archive.end(seq), f"{UUID}:{seq}" if seq else None)


def test_resolve_on_mariadb(tmp_path: Path) -> None:
    archive = filled(tmp_path, "mariadb")
    assert resolve(archive.store, archive.state, parse_target("0-1-7")).seq == 7
    with pytest.raises(TargetOutsideCoverage, match="mariadb"):
        resolve(archive.store, archive.state, parse_target(f"{UUID}:7"))


@pytest.mark.parametrize(
    "to",
    [
        "2025-12-31 23:59:59",
        "2026-01-01 00:00:21",
        f"{UUID}:21",
        "aaaaaaaa-0000-1111-2222-cccccccccccc:1",
        "0-1-7",
        "binlog.000001:899",
        "binlog.000001:20901",
        "binlog.000002:4",
        "mysql-bin.000001:5900",
    ],
)
def test_a_target_outside_coverage_names_what_is_covered(tmp_path: Path, to: str) -> None:
    archive = filled(tmp_path)
    with pytest.raises(TargetOutsideCoverage) as caught:
        resolve(archive.store, archive.state, parse_target(to))
    assert "binlog.000001:900" in caught.value.hint
    assert "binlog.000001:20900" in caught.value.hint


def test_an_archive_without_capture(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    with pytest.raises(ArchiveMissing):
        plan_for(archive.store, EMPTY, "latest")


def test_a_damaged_transactions_segment_is_named(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    path = archive.state.transactions[1].path
    (tmp_path / path).write_bytes(b"x")
    with pytest.raises(ArchiveDamaged) as caught:
        resolve(archive.store, archive.state, parse_target(f"{UUID}:7"))
    assert path in caught.value.message


# --- where snapshots stand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gtids", [True, False])
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.parametrize(("low", "high"), [(0, 0), (3, 3), (5, 5), (4, 6), (5, 10), (20, 20)])
def test_marks_become_seqs(tmp_path: Path, flavor: str, gtids: bool, low: int, high: int) -> None:
    archive = filled(tmp_path, flavor, gtids)
    snap(archive, "s", low, high)
    found = locate_snapshot(archive.store, archive.state, archive.state.snapshots[0])
    assert (found.low_seq, found.high_seq, found.before_start) == (low, high, False)


def test_gtids_decide_where_commits_overtook_each_other(tmp_path: Path) -> None:
    """LOW holds transactions 1-4 and 6, HIGH also 8: folding must begin at 5 and reach past 8."""
    archive = filled(tmp_path)
    low = archive.mark(0, f"{UUID}:1-4:6", position=archive.end(9))
    high = archive.mark(0, f"{UUID}:1-4:6:8", position=archive.end(9))
    snapshot = archive.snapshot("s", low, high)
    found = locate_snapshot(archive.store, archive.state, snapshot)
    assert (found.low_seq, found.high_seq) == (4, 8)


def test_a_high_mark_that_the_stream_has_not_reached(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "s", 20, 21)
    assert locate_snapshot(archive.store, archive.state, archive.state.snapshots[0]).high_seq is None
    with pytest.raises(TargetOutsideCoverage, match="ends after what has been captured"):
        planned(archive, "latest")


def test_a_snapshot_from_before_the_archive_is_not_used(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    start = archive.state.start
    assert start is not None
    state = replace(archive.state, start=replace(start, gtid_set=f"{UUID}:1-2"))
    snapshot = archive.snapshot("s", archive.mark(1), archive.mark(3))
    assert locate_snapshot(archive.store, state, snapshot).before_start


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "snapshot_id", "low", "segments"),
    [
        (f"{UUID}:3", "a", 3, []),
        (f"{UUID}:4", "a", 3, [(1, 5)]),
        (f"{UUID}:9", "a", 3, [(1, 5), (6, 10)]),  # inside b's LOW..HIGH
        (f"{UUID}:10", "b", 7, [(6, 10)]),
        ("latest", "c", 18, [(16, 20)]),
    ],
)
def test_the_newest_snapshot_that_serves(
    tmp_path: Path, to: str, snapshot_id: str, low: int, segments: list[tuple[int, int]]
) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    snap(archive, "b", 7, 10)
    snap(archive, "c", 18, 18)
    plan = planned(archive, to, "shop.orders")
    (one,) = plan.tables
    assert (one.snapshot_id, one.low_seq, [(s.first_seq, s.last_seq) for s in one.segments]) == (
        snapshot_id,
        low,
        segments,
    )


def test_a_target_before_the_first_snapshot_says_when_it_begins(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 6, 8)
    with pytest.raises(TargetOutsideCoverage) as caught:
        planned(archive, f"{UUID}:7")
    assert "binlog.000001:8900 (2026-01-01T00:00:08.500000+00:00)" in caught.value.hint


def test_tables_from_different_snapshots_share_the_cut(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    snap(archive, "b", 12, 12, ORDERS)
    plan = planned(archive, "latest")
    assert [(t.label, t.snapshot_id, t.low_seq) for t in plan.tables] == [
        ("shop.items", "a", 3),
        ("shop.orders", "b", 12),
    ]
    assert plan.cut.seq == 20
    assert plan.databases == (("shop", "CREATE DATABASE `shop`"),)


@pytest.mark.parametrize(
    ("patterns", "labels"),
    [
        ((), ["shop.items", "shop.orders"]),
        (("shop.*",), ["shop.items", "shop.orders"]),
        (("shop.o*", "shop.orders"), ["shop.orders"]),
        (("*.items",), ["shop.items"]),
    ],
)
def test_scope(tmp_path: Path, patterns: tuple[str, ...], labels: list[str]) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    assert [t.label for t in planned(archive, "latest", *patterns).tables] == labels


def test_an_unknown_table_gets_near_names(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    with pytest.raises(UnknownTable, match=r"shop\.order`") as caught:
        planned(archive, "latest", "shop.order")
    assert "`shop.orders`" in caught.value.hint


DOTTED = table("my.db", "a,b", column("id"))
BESIDE = table("my", "db.a,b", column("id"))
LONG = table("shop.eu", "orders", column("id"))


@pytest.mark.parametrize(
    ("patterns", "labels"),
    [
        (("`my.db`.`a,b`",), ["my.db.a,b"]),
        (("my.`db.a,b`",), ["my.db.a,b"]),
        (("`my.db`.*",), ["my.db.a,b"]),
        (("my.*",), ["my.db.a,b"]),
        (("shop.*",), ["shop.orders"]),
        (("shop.eu.orders",), ["shop.eu.orders"]),
        (("*.orders",), ["shop.orders", "shop.eu.orders"]),
        (("*",), ["my.db.a,b", "my.db.a,b", "shop.orders", "shop.eu.orders"]),
    ],
)
def test_names_with_dots(tmp_path: Path, patterns: tuple[str, ...], labels: list[str]) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3, DOTTED, BESIDE, LONG, ORDERS)
    assert [t.label for t in planned(archive, "latest", *patterns).tables] == labels


@pytest.mark.parametrize("pattern", ["my.db.a,b", "my.db.*", "my.*.a,b"])
def test_a_name_that_can_be_read_twice_is_refused(tmp_path: Path, pattern: str) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3, DOTTED, BESIDE)
    with pytest.raises(ConfigError, match=r"may mean `my`\.`.*` or `my\..*`\.`"):
        planned(archive, "latest", pattern)


def test_wildcards_in_backticks_are_letters(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    with pytest.raises(UnknownTable, match="no table of the archive"):
        planned(archive, "latest", "shop.`*`")


@pytest.mark.parametrize(
    ("values", "patterns"),
    [
        (None, ()),
        (["shop.a,shop.b", "x.y"], ("shop.a", "shop.b", "x.y")),
        (["`a,b`.`c``,d`, shop.x ,"], ("`a,b`.`c``,d`", "shop.x")),
    ],
)
def test_lists_of_patterns(values: list[str] | None, patterns: tuple[str, ...]) -> None:
    assert split_patterns("--tables", values) == patterns


@pytest.mark.parametrize("value", ["", " , ", "`a.b"])
def test_a_list_without_names_isn_t_everything(value: str) -> None:
    with pytest.raises(ConfigError, match="--tables"):
        split_patterns("--tables", [value])


def test_excluded_tables(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    plan = planned(archive, "latest", exclude=("shop.items",))
    assert [t.label for t in plan.tables] == ["shop.orders"]
    with pytest.raises(UnknownTable, match=r"`--exclude` of `shop\.item_\*` matches no table") as caught:
        planned(archive, "latest", exclude=("shop.items", "shop.item_*"))
    assert caught.value.hint.startswith("Did you mean `shop.items`")
    with pytest.raises(UnknownTable, match="leaves no table"):
        planned(archive, "latest", "shop.items", exclude=("shop.i*",))


def test_triggers_views_and_routines_are_named(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    objects = [
        SchemaObject("event", "shop", "nightly"),
        SchemaObject("procedure", "shop", "tidy"),
        SchemaObject("trigger", "shop", "t1", "orders"),
        SchemaObject("trigger", "shop", "t2", "items"),
        SchemaObject("view", "shop", "v1"),
        *(SchemaObject("view", "shop", f"w{n}") for n in range(3)),
    ]
    baselines = [archive.baseline("a", t, [], CREATE) for t in (ORDERS, ITEMS)]
    skipped = [("shop", o.name, "view") for o in objects if o.type == "view"]
    archive.snapshot("a", archive.mark(3), archive.mark(3), *baselines, skipped=skipped, objects=objects)
    (warning,) = planned(archive, "latest").warnings
    assert "not restored: procedure `shop.tidy`, trigger `shop.t1`, trigger `shop.t2`, view `shop.v1`" in warning
    assert "event `shop.nightly`" in warning
    assert "an earlier version, which kept no definitions" in warning
    assert "`backups/default/shop/a/`" in warning
    (warning,) = planned(archive, "latest", "shop.orders").warnings
    assert "trigger `shop.t1`:" in warning
    assert "shop.tidy" not in warning


def test_a_table_left_out_of_the_snapshot(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    baselines = [archive.baseline("a", ORDERS, [], CREATE)]
    archive.snapshot(
        "a", archive.mark(3), archive.mark(3), *baselines, skipped=[("shop", "geo", "column `g` is geometry")]
    )
    assert any("shop.geo" in w and "geometry" in w for w in planned(archive, "latest").warnings)
    assert any("shop.items" in w for w in planned(archive, "latest").warnings)
    with pytest.raises(UnknownTable, match="column `g` is geometry"):
        planned(archive, "latest", "shop.geo")


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("ALTER TABLE orders\n ADD COLUMN w int", [("SHOP", "Orders")]),
        ("ALTER TABLE orders\n ADD COLUMN w int", [("shop", "")]),
        ("ALTER TABLE orders\n ADD COLUMN w int", None),
        ("ALTER TABLE orders EXCHANGE PARTITION p WITH TABLE items", [("shop", "orders"), ("shop", "items")]),
        ("ALTER TABLE orders ADD COLUMN w timestamp DEFAULT CURRENT_TIMESTAMP", [("shop", "orders")]),
        ("ALTER TABLE orders ADD COLUMN w int AUTO_INCREMENT UNIQUE", [("shop", "orders")]),
        ("ALTER TABLE orders MODIFY v varchar(5)", [("shop", "orders")]),
        ("ALTER TABLE orders MODIFY v int", [("shop", "orders")]),
        ("ALTER TABLE orders IMPORT TABLESPACE", [("shop", "orders")]),
    ],
)
def test_ddl_that_cant_be_computed_is_refused_by_name(
    tmp_path: Path, statement: str, tables: list[tuple[str, str]] | None
) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    archive.window(insert(ITEMS, id=21, n=1), ddls=[archive.ddl(21, statement, tables)])
    text = re.escape(" ".join(statement.split()))
    with pytest.raises(DdlInRange, match=rf"`{text}` at binlog\.000001:21100: ") as caught:
        planned(archive, "latest", "shop.orders")
    assert "transaction 21" in caught.value.hint
    assert planned(archive, f"{UUID}:20", "shop.orders").tables


def test_ddl_on_other_tables_or_before_the_snapshot_is_no_obstacle(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    archive.window(
        insert(ORDERS, id=21, v="x"),
        insert(ORDERS, id=22, v="x"),
        ddls=[
            archive.ddl(21, "ALTER TABLE orders ADD w int", [("shop", "orders")]),
            archive.ddl(22, "ALTER TABLE items ADD w int", [("shop", "items")]),
            archive.ddl(22, "CREATE VIEW v AS SELECT 1", []),
        ],
    )
    snap(archive, "a", 21, 21)
    assert planned(archive, "latest", "shop.orders").tables[0].low_seq == 21


def test_a_table_dropped_since_an_older_snapshot(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    archive.window(insert(ORDERS, id=21, v="x"), ddls=[archive.ddl(21, "DROP TABLE `items`", [("shop", "items")])])
    snap(archive, "b", 21, 21, ORDERS)
    plan = planned(archive, "latest")
    assert [t.label for t in plan.tables] == ["shop.orders"]
    assert any("`shop.items` was dropped at binlog.000001:21100" in w for w in plan.warnings)
    with pytest.raises(DdlInRange, match="DROP TABLE"):
        planned(archive, "latest", "shop.items")
    assert [t.label for t in planned(archive, f"{UUID}:20").tables] == ["shop.items", "shop.orders"]


def test_tables_that_were_swapped_since_a_snapshot_of_one_of_them(tmp_path: Path) -> None:
    """The newest knows that its table went, and nothing of the one that took its name."""
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    snap(archive, "b", 12, 12, ORDERS)
    swap = "RENAME TABLE orders TO swapping, items TO orders, swapping TO items"
    names = [("shop", n) for n in ("orders", "swapping", "items", "orders", "swapping", "items")]
    archive.window([], ddls=[archive.ddl(21, swap, names)])
    for tables in ((), ("shop.*",), ("shop.orders", "shop.items")):
        plan = planned(archive, "latest", *tables)
        assert [(t.label, t.snapshot_id, t.origin) for t in plan.tables] == [
            ("shop.items", "b", ("shop", "orders")),
            ("shop.orders", "a", ("shop", "items")),
        ]
        assert not [w for w in plan.warnings if "left out" in w]


@pytest.mark.parametrize(
    ("column", "warned"),
    [
        ("`y` int GENERATED ALWAYS AS (year(`t`)) STORED, `t` timestamp NULL", True),
        ("`y` varchar(30) GENERATED ALWAYS AS (`n` / 3) STORED", True),
        ("`y` int GENERATED ALWAYS AS (year(`t`)) VIRTUAL, `t` timestamp NULL", False),
        ("`y` int GENERATED ALWAYS AS (`n` + 1) STORED, `d` datetime DEFAULT CURRENT_TIMESTAMP", False),
        ("`y` int, `t` timestamp NULL", False),
    ],
)
def test_stored_columns_that_another_session_may_compute_otherwise(tmp_path: Path, column: str, warned: bool) -> None:
    archive = filled(tmp_path)
    create = f"CREATE TABLE `items` (`id` int NOT NULL, `n` int, {column}, PRIMARY KEY (`id`))"
    baselines = archive.baseline("a", ORDERS, [], CREATE), archive.baseline("a", ITEMS, [], create)
    archive.snapshot("a", archive.mark(3), archive.mark(3), *baselines)
    found = [w for w in planned(archive, "latest").warnings if "computed anew" in w]
    assert found == [w for w in found if "STORED generated columns of shop.items are" in w]
    assert bool(found) == warned


def test_a_synthetic_snapshot_is_looked_at_whatever_its_clock_says(tmp_path: Path) -> None:
    """MariaDB's commits have whole seconds: a later state may bear an earlier time than a snapshot of the same second."""
    archive = filled(tmp_path)
    snap(archive, "a", 12, 12)
    (whole,) = archive.state.snapshots
    mark = replace(archive.mark(15), read_at_us=whole.high.read_at_us - 1)
    made = replace(
        whole,
        snapshot_id="made",
        low=mark,
        high=mark,
        baselines=(archive.baseline("made", ORDERS, [], CREATE),),
        synthetic=Synthetic(15, None, "latest", ("a",), 0, ()),
    )
    plan = plan_for(archive.store, replace(archive.state, snapshots=(whole, made)), "latest")
    assert [(t.label, t.snapshot_id, t.low_seq) for t in plan.tables] == [
        ("shop.items", "a", 12), ("shop.orders", "made", 15),
    ]  # fmt: skip


def test_a_table_dropped_since_the_newest_snapshot(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    archive.window(insert(ORDERS, id=21, v="x"), ddls=[archive.ddl(21, "DROP TABLE `items`", [("shop", "items")])])
    plan = planned(archive, "latest")
    assert [t.label for t in plan.tables] == ["shop.orders"]
    assert any("`shop.items` was dropped at binlog.000001:21100" in w for w in plan.warnings)
    with pytest.raises(DdlInRange, match="DROP TABLE"):
        planned(archive, "latest", "shop.items")
    archive.window(
        insert(ORDERS, id=22, v="x"), ddls=[archive.ddl(22, "CREATE TABLE `items` (id int)", [("shop", "items")])]
    )
    again = planned(archive, "latest", "shop.items").tables[0]
    assert (again.origin, again.objects, again.segments) == (None, (), ())
    assert again.schema == ("CREATE TABLE `shop`.`items` (id int)",)
    assert [t.label for t in planned(archive, "latest", exclude=("shop.items",)).tables] == ["shop.orders"]
    assert [t.label for t in planned(archive, f"{UUID}:21").tables] == ["shop.orders"]


def test_a_drop_in_another_spelling_may_be_of_another_table(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    archive.window(insert(ORDERS, id=21, v="x"), ddls=[archive.ddl(21, "DROP TABLE `Items`", [("shop", "Items")])])
    with pytest.raises(DdlInRange):
        planned(archive, "latest")


def test_a_dropped_table_that_was_written_to_afterwards_is_refused(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    archive.window(insert(ORDERS, id=21, v="x"), ddls=[archive.ddl(21, "DROP TABLE `items`", [("shop", "items")])])
    archive.window(insert(ITEMS, id=1, n=1))
    with pytest.raises(DdlInRange):
        planned(archive, "latest")


def test_changes_with_another_definition_are_refused(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 20, 20)
    other = table("shop", "orders", column("id"), column("v", "varchar", charset="latin1"))
    archive.window(insert(other, id=21, v="x"))
    with pytest.raises(NotComputable, match=r"shop\.orders.*have a column `v` that nothing before them explains"):
        planned(archive, "latest", "shop.orders")
    assert planned(archive, f"{UUID}:20", "shop.orders").tables


def test_a_keyless_table_that_changed_during_an_unlocked_snapshot(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for n in range(1, 11):
        archive.window(insert(KEYLESS, a=n) if n in (3, 7) else delete(ITEMS, id=n, n=0))
    snap(archive, "a", 2, 4, KEYLESS)
    with pytest.raises(NotComputable, match=r"shop\.bag.*no key"):
        planned(archive, "latest")
    snap(archive, "b", 3, 6, KEYLESS)
    assert planned(archive, "latest").tables[0].snapshot_id == "b"
    snap(archive, "c", 6, 8, KEYLESS)
    assert planned(archive, "latest").tables[0].snapshot_id == "b"


# --- gaps -------------------------------------------------------------------------------------------------------------


def gapped(root: Path) -> Archive:
    """Transactions 1-10, a gap from binlog.000001:10900 to :15000, transactions 11-15 (whose bytes are 16000 and on)."""
    archive = filled(root, windows=2)
    archive.commit(
        archive.gap(10, 15_000), Checkpoint(10, "binlog.000001", 15_000, "", T0 + 10 * SECOND, T0 + 10 * SECOND)
    )
    return archive


def test_a_time_inside_a_gap_names_it(tmp_path: Path) -> None:
    archive = gapped(tmp_path)
    snap(archive, "a", 3, 3)
    later = Checkpoint(10, "binlog.000001", 15_000, f"{UUID}:1-14", T0 + 10 * SECOND, T0 + 30 * SECOND)
    archive.commit(later)
    for to in ("2026-01-01 00:00:15", "binlog.000001:14000"):
        with pytest.raises(TargetOutsideCoverage, match=r"gap from binlog\.000001:10900 to binlog\.000001:15000"):
            planned(archive, to)
    assert planned(archive, "2026-01-01 00:00:10").cut.seq == 10


def test_latest_says_that_capture_has_stopped(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    assert not planned(archive, "latest").warnings
    archive.commit(archive.gap(20))
    (warning,) = planned(archive, "latest").warnings
    assert "capture stopped at binlog.000001:20900 (binlog purged)" in warning
    assert "known up to 2026-01-01T00:00:20+00:00 only" in warning
    assert not planned(archive, f"{UUID}:20").warnings
    archive.window(insert(ORDERS, id=21, v="x"))
    assert not planned(archive, "latest").warnings


def test_a_gap_cuts_a_snapshot_off(tmp_path: Path) -> None:
    archive = gapped(tmp_path)
    snap(archive, "a", 3, 3)
    archive.window(insert(ORDERS, id=1, v="y"))
    with pytest.raises(TargetOutsideCoverage, match="cut off from the target by the gap"):
        planned(archive, "latest")
    assert planned(archive, f"{UUID}:10").tables[0].snapshot_id == "a"


def test_a_snapshot_after_the_gap_serves_what_follows_and_nothing_before(tmp_path: Path) -> None:
    archive = gapped(tmp_path)
    low = archive.mark(12, f"{UUID}:1-10", position=15_000)
    archive.snapshot("b", low, low, archive.baseline("b", ORDERS, [], CREATE))
    archive.window(insert(ORDERS, id=1, v="y"))
    assert planned(archive, "latest").tables[0].snapshot_id == "b"
    with pytest.raises(TargetOutsideCoverage, match="gap"):
        planned(archive, f"{UUID}:10")


# --- what a person sees -----------------------------------------------------------------------------------------------


def test_explain_and_json_tell_the_same(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    snap(archive, "a", 3, 3)
    plan = planned(archive, f"{UUID}:12", "shop.orders")
    size = sum(s.size_bytes for s in plan.tables[0].segments)
    assert plan.explain() == [
        f"target {UUID}:12",
        f"cut at the end of transaction 12 (binlog.000001:12900, GTID {UUID}:12), 2026-01-01T00:00:12+00:00",
        (
            f"table shop.orders: 0 rows of snapshot a, then 15 row images of 3 segments, transactions 4 to 12 ({size} bytes "
            "to read)"
        ),
        f"1 tables, {size} bytes to read",
        f"expected: 15 rows and row images to fold, {size} bytes to read, about {size} bytes of scratch space, about 1 s",
    ]
    data = plan.to_json()
    assert data["cut"]["seq"] == 12
    assert data["tables"][0]["objects"] == [s.path for s in plan.tables[0].segments]


def test_a_time_target_on_mariadb_says_that_it_knows_seconds_only(tmp_path: Path) -> None:
    archive = filled(tmp_path, "mariadb")
    snap(archive, "a", 3, 3)
    assert any("whole seconds" in w for w in planned(archive, "2026-01-01 00:00:12").warnings)
    assert not planned(archive, "0-1-12").warnings


def test_errors_have_hints(tmp_path: Path) -> None:
    archive = filled(tmp_path)
    with pytest.raises(RowbackError) as caught:
        planned(archive, "latest")
    assert "rowback snapshot" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("shop.ordres", "shop.orders"),
        ("shop.ordr*", "shop.orders"),
        ("shpo.*", "shop.*"),
        ("other.item", "shop.items"),
        ("SHOP.ITEMS", "shop.items"),
        ("nothing.like_it", None),
    ],
)
def test_near_names(text: str, nearest: str | None) -> None:
    found = near_names(text, [("shop", "orders"), ("shop", "items"), ("blog", "orders")])
    assert next(iter(found), None) == nearest


def test_databases_as_patterns() -> None:
    assert of_databases(["shop", "sh*", "my.db", "`a.b`"]) == ("shop.*", "sh*.*", "`my.db`.*", "`a.b`.*")
