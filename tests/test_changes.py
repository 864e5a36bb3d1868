"""changes.py, images.py, seqrange.py, render.py: the change history of hand-made archives."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import SECOND_US, START_US, UUID, Archive, Del, Exact, Ins, Upd

from recovery.archive.actions import Cascade
from recovery.changes import ChangeQuery, ChangesResult, changes
from recovery.errors import ArchiveDamaged, ConfigError, TargetOutsideCoverage, UnknownTable
from recovery.render import changes_csv, changes_json, changes_jsonl, changes_table
from recovery.schema import Column, Table
from recovery.seqrange import moment_text, parse_bound
from recovery.undo import undo

ORDERS = Table(
    "shop",
    "orders",
    (
        Column("id", "int", nullable=False),
        Column("status", "varchar", octets=80, charset="utf8mb4"),
        Column("note", "varchar", octets=80, charset="utf8mb4"),
        Column("total", "decimal", precision=10, scale=2),
        Column("due", "date"),
        Column("raw", "blob"),
        Column("weight", "float"),
    ),
    ("id",),
)
PAIRS = Table("shop", "pairs", (Column("a", "int"), Column("b", "varchar", octets=80, charset="utf8mb4")), ("b", "a"))
KINDS = Table("shop", "kinds", (Column("k", "enum", labels=("x", "a"), charset="utf8mb4"),), ("k",))
ENUMS = Table("shop", "enums", (Column("id", "int"), Column("e", "enum", labels=("a", ""), charset="utf8mb4")), ("id",))
KEYLESS = Table("shop", "log", (Column("n", "int"), Column("t", "varchar", octets=80, charset="utf8mb4")))


def order(id_: int, **values: Any) -> dict[str, Any]:
    row = {"id": id_, "status": "new", "note": None, "total": "1.50", "due": None, "raw": None, "weight": None} | values
    from decimal import Decimal

    return {**row, "total": Decimal(row["total"])}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """seq 1: insert 1, 2, 3 | 2: update 1 | 3: delete 2 | 4: key of 3 becomes 30 | 5: update 1 to a zero date."""
    made = Archive(tmp_path)
    made.commit(
        [Ins(ORDERS, order(i)) for i in (1, 2, 3)],
        [Upd(ORDERS, order(1), order(1, status="paid", note="thanks"))],
    )
    made.commit([Del(ORDERS, order(2))])
    made.commit(
        [Upd(ORDERS, order(3), order(30))],
        [
            Upd(
                ORDERS,
                order(1, status="paid", note="thanks"),
                order(1, status="paid", note=None, due=Exact("0000-00-00"), raw=b"\0\xff", weight=1.5),
            )
        ],
    )
    return made


def ask(archive: Archive, **conditions: Any) -> ChangesResult:
    return changes(archive.store, archive.state, ChangeQuery(**{"table": ("shop", "orders"), **conditions}))


def places(result: ChangesResult) -> list[tuple[int, int]]:
    return [change.place for change in result.changes]


def test_newest_first_with_whole_images(archive: Archive) -> None:
    result = ask(archive)
    assert places(result) == [(5, 0), (4, 0), (3, 0), (2, 0), (1, 2), (1, 1), (1, 0)]
    update = result.changes[3]
    assert update.before is not None
    assert update.after is not None
    assert update.before.texts() == ("1", "new", None, "1.50", None, None, None)
    assert update.after.texts() == ("1", "paid", "thanks", "1.50", None, None, None)
    assert update.changed == ("status", "note")
    assert (update.gtid, update.committed_at_us) == (f"{UUID}:2", START_US + 2 * SECOND_US)
    zero = result.changes[0]
    assert zero.changed == ("note", "due", "raw", "weight")
    assert zero.before is not None
    assert zero.before.texts() == ("1", "paid", "thanks", "1.50", None, None, None)
    assert zero.image.texts() == ("1", "paid", None, "1.50", "0000-00-00", "0x00FF", "1.5")
    assert places(ask(archive, newest_first=False)) == places(result)[::-1]


def test_exact_values_before_an_update(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    zero = order(1, due=Exact("0000-00-00"))
    archive.commit([Upd(ORDERS, zero, order(1))], [Upd(ORDERS, zero, {**zero, "note": "x"})])
    kept, left = ask(archive).changes
    assert kept.before is not None
    assert left.before is not None
    assert kept.before.texts()[4] == kept.image.texts()[4] == "0000-00-00"
    assert (left.before.texts()[4], left.image.texts()[4]) == ("0000-00-00", None)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"key": ("1",)}, [(5, 0), (2, 0), (1, 0)]),
        ({"key": "3"}, [(4, 0), (1, 2)]),
        ({"key": "30"}, [(4, 0)]),
        ({"key": "99"}, []),
        ({"ops": ("delete",)}, [(3, 0)]),
        ({"ops": ("update", "delete"), "key": "1"}, [(5, 0), (2, 0)]),
        ({"transactions": (f"{UUID}:2", 4)}, [(4, 0), (2, 0)]),
        ({"since": f"{UUID.upper()}:3"}, [(5, 0), (4, 0), (3, 0)]),
        ({"until": f"{UUID}:2", "ops": ("update",)}, [(2, 0)]),
        ({"since": "2026-05-02T10:00:02", "until": "2026-05-02 12:00:03+02:00"}, [(3, 0), (2, 0)]),
        ({"since": "2026-05-02T10:00:02.000001", "until": "2026-05-02T10:00:03.999999"}, [(3, 0)]),
        ({"until": "2020-01-01"}, []),
        ({"limit": 2}, [(5, 0), (4, 0)]),
        ({"limit": 2, "newest_first": False}, [(1, 0), (1, 1)]),
    ],
)
def test_filters(archive: Archive, conditions: dict[str, Any], expected: list[tuple[int, int]]) -> None:
    result = ask(archive, **conditions)
    assert places(result) == expected
    assert result.truncated == ("limit" in conditions)


def test_composite_key_follows_the_key_order(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(PAIRS, {"a": a, "b": b}) for a in (1, 2) for b in ("x", "y,z")])
    rows = [c.image.texts() for c in ask(archive, table=("shop", "pairs"), key='"y,z",2').changes]
    assert rows == [("2", "y,z")]
    assert len(ask(archive, table=("shop", "pairs"), key=("x",)).changes) == 2
    assert ask(archive, table=("shop", "pairs"), key=("X",)).changes == ()


def test_a_limit_reads_no_older_segment(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    oldest = archive.state.segments[0]
    archive.store.delete(oldest.path)
    assert places(ask(archive, limit=2)) == [(5, 0), (4, 0)]
    assert places(ask(archive, key="30")) == [(4, 0)]  # by the key's bounds
    with pytest.raises(ArchiveDamaged, match=oldest.path):
        ask(archive)


def test_keyless_table(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(KEYLESS, {"n": 1, "t": None}), Upd(KEYLESS, {"n": 1, "t": None}, {"n": 1, "t": "x"})])
    update, insert = ask(archive, table=("shop", "log")).changes
    assert update.before is not None
    assert update.before.texts() == insert.image.texts() == ("1", None)
    with pytest.raises(ConfigError, match="no primary key"):
        ask(archive, table=("shop", "log"), key="1")


@pytest.mark.parametrize(
    ("conditions", "error", "text"),
    [
        ({"table": ("shop", "order")}, UnknownTable, "Did you mean `shop.orders`"),
        ({"table": ("zzz", "qqqqqq")}, UnknownTable, "case-sensitive"),
        ({"key": "abc"}, ConfigError, "key column `id`"),
        ({"key": ("1", "2")}, ConfigError, "has 2 values"),
        ({"ops": ("upsert",)}, ConfigError, "upsert"),
        ({"since": "yesterday"}, ConfigError, "yesterday"),
        ({"limit": 0}, ConfigError, "limit"),
        ({"since": f"{UUID}:99"}, TargetOutsideCoverage, "not in the archive"),
        ({"since": "2030-01-01"}, TargetOutsideCoverage, "known up to 2026-05-02 10:00:05 UTC"),
        ({"since": "2026-05-02T10:00:05.000001"}, TargetOutsideCoverage, "rowback capture --until-caught-up"),
        ({"transactions": (99,)}, TargetOutsideCoverage, "transactions seq 1 to 5, from 2026-05-02 10:00:00 UTC on"),
        ({"transactions": (0,)}, TargetOutsideCoverage, "not in the archive"),
        ({"transactions": (1, f"{UUID}:99")}, TargetOutsideCoverage, "transactions seq 1 to 5"),
        ({"transactions": ("nonsense",)}, ConfigError, "neither a GTID"),
    ],
)
def test_bad_questions(archive: Archive, conditions: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        ask(archive, **conditions)
    assert text in str(caught.value)


def test_warnings_name_what_is_not_known(archive: Archive) -> None:
    archive.gap()
    warnings = ask(archive, since="2026-05-01", until="2026-06-01").warnings
    assert [w.split()[0:3] for w in warnings] == [
        ["The", "history", "begins"],
        ["The", "history", "is"],
        ["Changes", "after", "transaction"],
    ]
    assert ask(archive, until=f"{UUID}:4").warnings == ()


def test_rows_that_went_without_row_events_are_named(archive: Archive) -> None:
    archive.ddl("TRUNCATE TABLE orders", (("shop", "orders"),))
    archive.state = replace(archive.state, ddls=(replace(archive.state.ddls[0], verb="TRUNCATE TABLE"),))
    (warning,) = ask(archive).warnings
    assert "`TRUNCATE TABLE orders` at seq 6" in warning
    assert ask(archive, until="2026-05-02 10:00:05").warnings == ()


def test_unlogged_cascades_are_named(archive: Archive) -> None:
    """orders (deletes and updates) -> pairs -> log, without row events below."""
    archive.commit([Ins(KEYLESS, {"n": 1, "t": "x"})], [Ins(PAIRS, {"a": 1, "b": "x"})])
    archive.snapshot((PAIRS, ""))
    cascades = (
        Cascade("shop", "log", "shop", "pairs", "CASCADE", "NO ACTION"),
        Cascade("shop", "pairs", "shop", "orders", "CASCADE", "NO ACTION"),
    )
    archive.state = replace(archive.state, snapshots=(replace(archive.state.snapshots[0], cascades=cascades),))
    for table in (("shop", "log"), ("shop", "pairs")):
        (warning,) = ask(archive, table=table).warnings
        assert "those of shop.orders," in warning
        script = undo(archive.store, archive.state, ChangeQuery(table=table, since="2026-05-02 10:00:00"))
        assert any("those of shop.orders," in w for w in script.warnings)
        assert ask(archive, table=table, since="2026-05-02 10:00:06").warnings == ()
    assert ask(archive).warnings == ()


def test_an_enum_key_without_a_label(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(KINDS, {"k": Exact("0")}), Ins(KINDS, {"k": "x"})])
    assert [c.ordinal for c in ask(archive, table=("shop", "kinds"), key="").changes] == [0]
    assert [c.ordinal for c in ask(archive, table=("shop", "kinds"), key="x").changes] == [1]


def test_segments_that_share_a_transaction(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    wider = replace(ORDERS, columns=(*ORDERS.columns, Column("extra", "int")))
    archive.commit([Ins(ORDERS, order(1)), Ins(wider, {**order(2), "extra": 5}), Ins(ORDERS, order(3))])
    result = ask(archive, newest_first=False)
    assert places(result) == [(1, 0), (1, 1), (1, 2)]
    assert [len(c.image.values) for c in result.changes] == [7, 8, 7]


# --- rendering --------------------------------------------------------------------------------------------------------


def test_json_form(archive: Archive) -> None:
    document = json.loads(changes_json(ask(archive, limit=1)))
    assert document == {
        "table": "shop.orders",
        "truncated": True,
        "known_to": "2026-05-02T10:00:05Z",
        "warnings": [],
        "changes": [
            {
                "seq": 5,
                "ordinal": 0,
                "gtid": f"{UUID}:5",
                "committed_at": "2026-05-02T10:00:05Z",
                "cut_at": "2026-05-02T10:00:05Z",
                "binlog_file": "binlog.000001",
                "binlog_position": 5100,
                "connection_id": 7,
                "op": "update",
                "key": {"id": 1},
                "before": {
                    "id": 1, "status": "paid", "note": "thanks", "total": "1.50", "due": None, "raw": None, "weight": None,
                },
                "after": {
                    "id": 1, "status": "paid", "note": None, "total": "1.50", "due": "0000-00-00", "raw": "0x00FF",
                    "weight": 1.5,
                },
                "changed": ["note", "due", "raw", "weight"],
                "invalid_enums": {"before": [], "after": []},
                "raw_texts": {"before": [], "after": []},
            }
        ],
    }  # fmt: skip
    lines = changes_jsonl(ask(archive)).splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [5, 4, 3, 2, 1, 1, 1]


def test_an_enums_invalid_value(tmp_path: Path) -> None:
    """It prints as '' does, which may be a label; JSON tells them apart."""
    archive = Archive(tmp_path)
    archive.commit([Upd(ENUMS, {"id": 1, "e": Exact("0")}, {"id": 1, "e": ""})])
    result = ask(archive, table=("shop", "enums"))
    (change,) = json.loads(changes_json(result))["changes"]
    assert (change["before"], change["after"]) == ({"id": 1, "e": ""}, {"id": 1, "e": ""})
    assert change["invalid_enums"] == {"before": ["e"], "after": []}
    row = next(r for r in csv.DictReader(io.StringIO(changes_csv(result))) if r["column"] == "e")
    assert (row["before"], row["after"]) == ("", "")
    assert "e:  ->" in changes_table(result, width=200)


def test_the_table_says_how_far_it_reaches(archive: Archive) -> None:
    asked = START_US + 200 * SECOND_US
    assert "Known up to 2026-05-02 10:00:05 UTC; capture is 3 min behind." in changes_table(
        ask(archive, asked_at_us=asked)
    )
    empty = changes_table(ask(archive, key="99"))
    assert "No change matches. Known up to 2026-05-02 10:00:05 UTC." in empty


def test_csv_form(archive: Archive) -> None:
    rows = list(csv.DictReader(io.StringIO(changes_csv(ask(archive, transactions=(2,))))))
    status = next(r for r in rows if r["column"] == "status")
    note = next(r for r in rows if r["column"] == "note")
    assert (status["before"], status["after"], status["changed"], status["key"]) == ("new", "paid", "1", "1")
    assert (note["before"], note["after"]) == ("\\N", "thanks")


def test_table_form_shows_changed_cells_and_no_control_characters(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit([Upd(ORDERS, order(1), order(1, status="[bold]\x1b[31mred", note="x"))])
    text = changes_table(ask(archive), width=200)
    assert "status: new -> [bold]?[31mred" in text
    assert "note: NULL -> x" in text
    assert "total" not in text
    assert "\x1b" not in text


@given(st.integers(0, 4_000_000_000_000_000))
def test_moment_text_is_the_inverse_of_parse_bound(at_us: int) -> None:
    assert parse_bound(moment_text(at_us)) == at_us
    assert parse_bound(moment_text(at_us) + "Z") == at_us


def test_bounds() -> None:
    assert parse_bound("0-1-42") == "0-1-42"
    assert parse_bound("1970-01-02") == 86_400 * SECOND_US
    assert parse_bound(f"{UUID.upper()}:tag:7") == f"{UUID}:tag:7"
