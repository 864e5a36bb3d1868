"""Restores with transactions left out, of archives built by hand: what stands for each row, what conflicts,
what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handmade import UUID, Archive, Image, column, delete, insert, table, update
from test_restore_synthetic import rows_in

from recovery.archive.actions import Cascade
from recovery.errors import ConfigError, DdlInRange, NotComputable, RowbackError, TargetOutsideCoverage
from recovery.restore import RestoreRequest, RestoreResult, restore

T = table("shop", "orders", column("id"), column("a"), column("b"))
BAG = table("shop", "bag", column("a"), key=())
CREATE = "CREATE TABLE `orders` (`id` int, `a` int, `b` int)"
Transaction = list[Image]


def row(id_: int, a: int, b: int) -> dict[str, int]:
    return {"id": id_, "a": a, "b": b}


def ins(*cells: int, at: int = 0) -> Transaction:
    return insert(T, at, **row(*cells))


def gone(*cells: int, at: int = 0) -> Transaction:
    return delete(T, at, **row(*cells))


def upd(before: tuple[int, int, int], after: tuple[int, int, int], at: int = 0) -> Transaction:
    return update(T, row(*before), row(*after), at)


def built(tmp_path: Path, *transactions: Transaction, apart: bool = False) -> Archive:
    """Rows 1 to 3 in the snapshot, then the transactions, in one segment or each in its own."""
    archive = Archive(tmp_path / "archive")
    rows = [(row(n, n, n), {}) for n in (1, 2, 3)]
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", T, rows, CREATE))
    for part in [[t] for t in transactions] if apart else [transactions]:
        archive.window(*part)
    return archive


def without(archive: Archive, output: Path, *left_out: str, **given: Any) -> RestoreResult:
    to = given.pop("to", "latest")
    return restore(archive.store, archive.state, RestoreRequest(to, (), output, leave_out=left_out, **given))


# transactions, of which the first is left out; rows kept later, rows dropped later (None: no conflict, the same)
CASES: dict[str, tuple[list[Transaction], list[str], list[str] | None]] = {
    "an update": ([upd((1, 1, 1), (1, 9, 1))], ["(1,1,1)", "(2,2,2)", "(3,3,3)"], None),
    "an insert": ([ins(4, 4, 4)], ["(1,1,1)", "(2,2,2)", "(3,3,3)"], None),
    "a delete": ([gone(2, 2, 2)], ["(1,1,1)", "(2,2,2)", "(3,3,3)"], None),
    "another column later": (
        [upd((1, 1, 1), (1, 9, 1)), upd((1, 9, 1), (1, 9, 7))],
        ["(1,1,7)", "(2,2,2)", "(3,3,3)"],
        None,
    ),
    "the same column later": (
        [upd((1, 1, 1), (1, 9, 1)), upd((1, 9, 1), (1, 10, 1))],
        ["(1,10,1)", "(2,2,2)", "(3,3,3)"],
        None,
    ),
    "deleted later": ([upd((1, 1, 1), (1, 9, 1)), gone(1, 9, 1)], ["(2,2,2)", "(3,3,3)"], None),
    "twice in the transaction": (
        [upd((1, 1, 1), (1, 8, 1)) + upd((1, 8, 1), (1, 8, 9), at=1)],
        ["(1,1,1)", "(2,2,2)", "(3,3,3)"],
        None,
    ),
    "replaced in the transaction, then updated": (
        [gone(1, 1, 1) + ins(1, 9, 9, at=1), upd((1, 9, 9), (1, 5, 9))],
        ["(1,5,1)", "(2,2,2)", "(3,3,3)"],
        None,
    ),
    "moved to another key later": (
        [upd((1, 1, 1), (1, 9, 1)), upd((1, 9, 1), (7, 9, 1)), upd((7, 9, 1), (7, 9, 2))],
        ["(2,2,2)", "(3,3,3)", "(7,1,2)"],
        None,
    ),
    "keys shifted by the transaction": (
        [upd((3, 3, 3), (4, 3, 3)) + upd((2, 2, 2), (3, 2, 2), at=1)],
        ["(1,1,1)", "(2,2,2)", "(3,3,3)"],
        None,
    ),
    "an inserted row deleted later": ([ins(4, 4, 4), gone(4, 4, 4)], ["(1,1,1)", "(2,2,2)", "(3,3,3)"], None),
    "an inserted row updated later": (
        [ins(4, 4, 4), upd((4, 4, 4), (4, 5, 4))],
        ["(1,1,1)", "(2,2,2)", "(3,3,3)", "(4,5,4)"],
        ["(1,1,1)", "(2,2,2)", "(3,3,3)"],
    ),
    "an inserted row updated and deleted later": (
        [ins(4, 4, 4), upd((4, 4, 4), (4, 5, 4)), gone(4, 5, 4)],
        ["(1,1,1)", "(2,2,2)", "(3,3,3)"],
        None,
    ),
    "a deleted row inserted later": (
        [gone(2, 2, 2), ins(2, 7, 7), upd((2, 7, 7), (2, 7, 8))],
        ["(1,1,1)", "(2,7,8)", "(3,3,3)"],
        ["(1,1,1)", "(2,2,8)", "(3,3,3)"],
    ),
    "another row moved to a deleted row's key": (
        [gone(2, 2, 2), upd((3, 3, 3), (2, 3, 3))],
        ["(1,1,1)", "(2,3,3)"],
        ["(1,1,1)", "(2,2,2)", "(3,3,3)"],
    ),
    "a moved row updated under its new key": (
        [upd((3, 3, 3), (4, 3, 3)), upd((4, 3, 3), (4, 9, 3))],
        ["(1,1,1)", "(2,2,2)", "(3,3,3)", "(4,9,3)"],
        ["(1,1,1)", "(2,2,2)", "(3,3,3)"],
    ),
    "a move onto a deleted row's key, deleted again": (
        [gone(2, 2, 2), upd((3, 3, 3), (2, 3, 3)), gone(2, 3, 3)],
        ["(1,1,1)"],
        ["(1,1,1)", "(3,3,3)"],
    ),
}


@pytest.mark.parametrize(("name", "apart"), [(name, n % 2 == 0) for n, name in enumerate(CASES)])
def test_what_a_row_would_be(name: str, apart: bool, tmp_path: Path) -> None:
    transactions, kept, dropped = CASES[name]
    archive = built(tmp_path, *transactions, apart=apart)
    if dropped is None:
        result = without(archive, tmp_path / "out", f"{UUID}:1")
        assert rows_in(tmp_path / "out") == kept
        assert result.plan.exclusion is not None
        assert len(result.plan.exclusion.later) == sum(len(t) // 2 or 1 for t in transactions[1:])
        assert not result.plan.exclusion.open
        return
    with pytest.raises(
        NotComputable, match=rf"can't be so without transaction `{UUID}:1`: {UUID}:2 .*shop\.orders \(\d"
    ):
        without(archive, tmp_path / "out", f"{UUID}:1")
    assert not (tmp_path / "out").exists()
    without(archive, tmp_path / "out", f"{UUID}:1", except_conflicts="keep-later")
    assert rows_in(tmp_path / "out") == kept
    without(archive, tmp_path / "less", f"{UUID}:1", except_conflicts="drop-later")
    assert rows_in(tmp_path / "less") == dropped


def test_several_transactions_and_those_behind_the_target(tmp_path: Path) -> None:
    steps = [upd((1, 1, 1), (1, 9, 1)), upd((1, 9, 1), (1, 9, 5)), upd((1, 9, 5), (1, 10, 6)), gone(1, 10, 6)]
    archive = built(tmp_path, *steps, apart=True)
    without(archive, tmp_path / "a", f"{UUID}:1", "binlog.000001:3500", to=f"{UUID}:3")
    assert rows_in(tmp_path / "a") == ["(1,1,5)", "(2,2,2)", "(3,3,3)"]
    plan = without(archive, tmp_path / "b", "2", "4").plan
    assert rows_in(tmp_path / "b") == ["(1,10,6)", "(2,2,2)", "(3,3,3)"]
    assert plan.exclusion is not None
    (later,) = plan.exclusion.later
    assert (later.gtid, later.table, later.key, later.columns) == (f"{UUID}:3", "shop.orders", ("1",), ("a", "b"))
    assert later.again == ("b",)  # 5 without transaction 2 left out; what 3 logged may come of it
    with pytest.raises(ConfigError, match=r"later than the target"):
        without(archive, tmp_path / "c", f"{UUID}:4", to=f"{UUID}:3")


def test_a_dry_run_lists_the_later_transactions(tmp_path: Path) -> None:
    archive = built(
        tmp_path, upd((1, 1, 1), (1, 9, 1)) + ins(4, 4, 4, at=1), upd((1, 9, 1), (1, 10, 2)), upd((4, 4, 4), (4, 4, 5))
    )
    plan = without(archive, tmp_path / "out", f"{UUID}:1", dry_run=True).plan
    lines = plan.explain()
    assert (
        f"without transaction {UUID}:1 at binlog.000001:1000 (2026-01-01T00:00:01+00:00): 2 row changes of shop.orders"
        in lines
    )
    assert f"  {UUID}:2 2026-01-01T00:00:02+00:00 shop.orders (1): update of a, b (a: changed by both)" in lines
    assert any(line.endswith("update of b: CONFLICT, it changed a row that isn't there without it") for line in lines)
    assert "1 of them conflict: the restore is refused without --except-conflicts" in lines
    listed = plan.to_json()["except"]["later"]
    assert [(e["key"], e["columns"], bool(e["conflict"])) for e in listed] == [
        (("1",), ("a", "b"), False),
        (("4",), ("b",), True),
    ]


def test_a_snapshot_that_holds_the_transaction_is_passed_over(tmp_path: Path) -> None:
    archive = built(tmp_path, upd((1, 1, 1), (1, 9, 1)))
    rows = [(row(1, 9, 1), {}), (row(2, 2, 2), {}), (row(3, 3, 3), {})]
    archive.snapshot("later", archive.mark(1), archive.mark(1), archive.baseline("later", T, rows, CREATE))
    without(archive, tmp_path / "out", f"{UUID}:1")
    assert rows_in(tmp_path / "out") == ["(1,1,1)", "(2,2,2)", "(3,3,3)"]


def test_only_a_snapshot_that_holds_it(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    archive.window(ins(1, 1, 1))
    archive.snapshot("s", archive.mark(1), archive.mark(1), archive.baseline("s", T, [(row(1, 1, 1), {})], CREATE))
    with pytest.raises(TargetOutsideCoverage, match=r"snapshot s may hold transaction 1, which is to be left out"):
        without(archive, tmp_path / "out", f"{UUID}:1")


def test_a_table_without_a_key(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    rows = [({"a": n}, {}) for n in (1, 1, 2)]
    archive.snapshot(
        "s", archive.mark(0), archive.mark(0), archive.baseline("s", BAG, rows, "CREATE TABLE `bag` (`a` int)")
    )
    archive.window(
        delete(BAG, a=1) + insert(BAG, 1, a=7) + update(BAG, {"a": 2}, {"a": 3}, 2), insert(BAG, a=1), delete(BAG, a=1)
    )
    without(archive, tmp_path / "out", f"{UUID}:1")
    assert rows_in(tmp_path / "out", "shop.bag") == ["(1)", "(1)", "(2)"]
    archive.window(update(BAG, {"a": 7}, {"a": 8}))
    with pytest.raises(NotComputable, match=r"`shop\.bag` has no key, and aaaa.*:4 at binlog\.000001:4100"):
        without(archive, tmp_path / "more", f"{UUID}:1")


@pytest.mark.parametrize(
    ("text", "kind", "message", "hint"),
    [
        (
            f"{UUID}:2",
            DdlInRange,
            r"can't be left out: it is `TRUNCATE TABLE orders` at binlog\.000001:2100",
            "just before",
        ),
        (f"{UUID}:3", ConfigError, r"changed no row that was captured", "XA COMMIT"),
        (f"{UUID}:9", TargetOutsideCoverage, r"is not in the archive", "status"),
        ("binlog.000001:950", TargetOutsideCoverage, r"no captured transaction stands at", "changes"),
        ("nonsense", ConfigError, r"neither a GTID nor a transaction's number", "changes"),
    ],
)
def test_what_cant_be_left_out(text: str, kind: type[RowbackError], message: str, hint: str, tmp_path: Path) -> None:
    archive = built(tmp_path, ins(4, 4, 4))
    archive.window([], ddls=[archive.ddl(2, "TRUNCATE TABLE orders", [("shop", "orders")])])
    archive.window([])
    with pytest.raises(kind, match=message) as caught:
        without(archive, tmp_path / "out", text)
    assert hint in caught.value.hint


def test_through_an_added_column(tmp_path: Path) -> None:
    """The row's cells go on under the new definition; a later change that logged its own isn't disturbed."""
    archive = built(tmp_path, upd((1, 1, 1), (1, 9, 1)) + gone(2, 2, 2, at=1))
    wider = table("shop", "orders", *T.columns, column("c"))
    ddl = archive.ddl(2, "ALTER TABLE orders ADD COLUMN c int DEFAULT 5", [("shop", "orders")])
    archive.window([], ddls=[ddl])
    archive.window(update(wider, {**row(1, 9, 1), "c": 5}, {**row(1, 9, 2), "c": 5}))
    without(archive, tmp_path / "out", f"{UUID}:1")
    assert rows_in(tmp_path / "out") == ["(1,1,2,5)", "(2,2,2,5)", "(3,3,3,5)"]
    archive.window(insert(wider, **row(2, 8, 8), c=8))
    without(archive, tmp_path / "kept", f"{UUID}:1", except_conflicts="keep-later")
    assert rows_in(tmp_path / "kept") == ["(1,1,2,5)", "(2,8,8,8)", "(3,3,3,5)"]
    with pytest.raises(NotComputable, match=r"row `2` of table `shop\.orders` can't be computed"):
        without(archive, tmp_path / "dropped", f"{UUID}:1", except_conflicts="drop-later")


CODES = table("shop", "codes", column("id", "varchar", octets=40), column("v"))


def codes(tmp_path: Path, collation: str, *transactions: Transaction) -> Archive:
    archive = Archive(tmp_path / "archive")
    rows = [({"id": "straße", "v": 1}, {})]
    create = f"CREATE TABLE `codes` (`id` varchar(10) COLLATE {collation}, `v` int, PRIMARY KEY (`id`))"
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", CODES, rows, create))
    archive.window(*transactions)
    return archive


@pytest.mark.parametrize(
    ("later", "collation", "same"),
    [
        ("STRASSE ", "utf8mb4_0900_ai_ci", True),
        ("ｓｔｒａｓｓｅ", "utf8mb4_0900_ai_ci", True),  # noqa: RUF001 - full width
        ("strasze", "utf8mb4_0900_ai_ci", False),
        ("STRASSE", "utf8mb4_bin", False),
        ("straße ", "utf8mb4_bin", True),
    ],
)
def test_keys_that_a_collation_may_take_for_one(later: str, collation: str, same: bool, tmp_path: Path) -> None:
    """The load would fail on them, and MariaDB's client would go on behind the failure."""
    archive = codes(tmp_path, collation, delete(CODES, id="straße", v=1), insert(CODES, id=later, v=2))
    if same:
        said = rf"{UUID}:2 at .* changed the row `{later}` \(insert\).* the row `straße` is there: under `{collation}` that"
        with pytest.raises(NotComputable, match=said) as caught:
            without(archive, tmp_path / "out", f"{UUID}:1")
        assert f"--before {UUID}:2" in caught.value.hint
    else:
        assert without(archive, tmp_path / "out", f"{UUID}:1").rows == 2


@pytest.mark.parametrize(
    "later", [update(CODES, {"id": "STRASSE", "v": 1}, {"id": "STRASSE", "v": 2}), delete(CODES, id="STRASSE", v=1)]
)
def test_a_key_in_another_case(later: Transaction, tmp_path: Path) -> None:
    """Without the transaction the later one would have found the row under its old key, or not: the collation decides."""
    moved = update(CODES, {"id": "straße", "v": 1}, {"id": "STRASSE", "v": 1})
    archive = codes(tmp_path, "utf8mb4_0900_ai_ci", moved, later)
    for policy in ("refuse", "keep-later", "drop-later"):
        with pytest.raises(NotComputable, match=r"changed the row `STRASSE` .* that may be the same key"):
            without(archive, tmp_path / "out", f"{UUID}:1", except_conflicts=policy)
    without(archive, tmp_path / "out", f"{UUID}:1", to=f"{UUID}:1")
    assert rows_in(tmp_path / "out", "shop.codes") == ["(_utf8mb4 X'73747261C39F65',1)"]


def test_keys_that_were_there_together(tmp_path: Path) -> None:
    """What the source had side by side under a key is not equal under its collation, whatever it is."""
    archive = codes(tmp_path, "utf8mb4_0900_ai_ci", insert(CODES, id="strasse", v=2))
    archive.window(delete(CODES, id="straße", v=1) + delete(CODES, 1, id="strasse", v=2), insert(CODES, id="x", v=3))
    assert without(archive, tmp_path / "out", f"{UUID}:2").rows == 3


TEXTS = table("shop", "texts", column("id"), column("u", "varchar", octets=40), column("n"))


OF_TEXTS = (
    "CREATE TABLE `texts` (`id` int, `u` varchar(10) COLLATE {}, `n` int, PRIMARY KEY (`id`), UNIQUE KEY `u` (`u`))"
)


def text_row(id_: int, u: str | None, n: int = 0) -> dict[str, Any]:
    return {"id": id_, "u": u, "n": n}


# later transactions; whether they fit the row (1, 'o', 0) that was deleted, beside (2, 'ö', 0)
TAKEN: dict[str, tuple[list[Transaction], bool]] = {
    "the other row was there before": ([update(TEXTS, text_row(2, "ö"), text_row(2, "ö", 5))], True),
    "the other row was given it later": ([update(TEXTS, text_row(2, "ö"), text_row(2, "Ö"))], False),
    "another row": ([insert(TEXTS, **text_row(3, "O"))], False),
    "another value": ([insert(TEXTS, **text_row(3, "oo"))], True),
    "no value": ([insert(TEXTS, **text_row(3, None))], True),
    "a row that is gone again": ([insert(TEXTS, **text_row(3, "O")), delete(TEXTS, **text_row(3, "O"))], True),
    "the row came back under another key": ([insert(TEXTS, **text_row(4, "o"))], False),
}


@pytest.mark.parametrize("name", TAKEN)
def test_unique_texts_that_a_collation_may_take_for_one(name: str, tmp_path: Path) -> None:
    later, fits = TAKEN[name]
    archive = Archive(tmp_path / "archive")
    rows = [(text_row(1, "o"), {}), (text_row(2, "ö"), {})]
    archive.snapshot(
        "s", archive.mark(0), archive.mark(0), archive.baseline("s", TEXTS, rows, OF_TEXTS.format("utf8mb4_unicode_ci"))
    )
    archive.window(delete(TEXTS, **text_row(1, "o")), *later)
    if fits:
        without(archive, tmp_path / "out", f"{UUID}:1")
        assert "(1,'o',0)" in rows_in(tmp_path / "out", "shop.texts")
        return
    with pytest.raises(
        NotComputable, match=rf"unique key `u` \(u\).* without the transaction; {UUID}:2 at .* set it"
    ) as caught:
        without(archive, tmp_path / "out", f"{UUID}:1")
    assert f"--before {UUID}:2" in caught.value.hint


def test_a_unique_value_taken_by_a_later_row(tmp_path: Path) -> None:
    create = "CREATE TABLE `orders` (`id` int, `a` int, `b` int, UNIQUE KEY `x` (`a`,`b`), UNIQUE KEY `p` (`b`))"
    archive = Archive(tmp_path / "archive")
    rows = [(row(n, n, n), {}) for n in (1, 2)]
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", T, rows, create))
    archive.window(gone(2, 2, 2), ins(3, 2, 7))
    without(archive, tmp_path / "fine", f"{UUID}:1")
    archive.window(ins(4, 9, 2))
    with pytest.raises(
        NotComputable, match=r"same values \(2\) of its unique key `p` \(b\) without the transaction"
    ) as caught:
        without(archive, tmp_path / "out", f"{UUID}:1")
    assert "--exclude 'shop.orders'" in caught.value.hint


# `orders` has (1,1,1), (2,2,2), (3,3,3); the first transaction is left out.
# what its definition has besides; transactions, a text for a statement; what is said of it, None if it is restored
DEMANDS: dict[str, tuple[str, list[Transaction | str], str | None]] = {
    "a unique key added later": (
        "", [gone(2, 2, 2), ins(4, 4, 2), "ALTER TABLE orders ADD UNIQUE KEY u (b)"],
        r"same values \(2\) of its unique key `u` \(b\) .* since `ALTER TABLE orders ADD UNIQUE KEY u \(b\)` at binlog",
    ),
    "one that fits": ("", [gone(2, 2, 2), ins(4, 4, 4), "ALTER TABLE orders ADD UNIQUE u (b)"], None),
    "one that was dropped": (", UNIQUE KEY `u` (`b`)", [gone(2, 2, 2), "DROP INDEX u ON orders", ins(4, 4, 2)], None),
    "a generated key": (
        ", `g` int AS (`a` * 2 + `b`) VIRTUAL, UNIQUE KEY `g` (`g`)", [gone(2, 2, 2), ins(4, 1, 4)],
        rf"same values \(6\) of its unique key `g` \(g\) without the transaction; {UUID}:2 at",
    ),
    "a generated key that fits": (", UNIQUE KEY `g` ((`a` * 2 + `b`))", [gone(2, 2, 2), ins(4, 1, 5)], None),
    "an expression that isn't computed": (
        ", UNIQUE KEY `g` ((`a` DIV 2))", [gone(2, 2, 2), ins(4, 40, 5)],
        r"may have several rows .* unique key `g` \(`a` DIV 2\) .* those of `2`, and what they are can't be computed",
    ),
    "one that nothing set later": (", UNIQUE KEY `g` ((`a` DIV 2))", [gone(2, 2, 2), upd((3, 3, 3), (3, 3, 9))], None),
    "one of other columns": (", UNIQUE KEY `g` ((`a` DIV 2))", [upd((2, 2, 2), (2, 2, 9)), ins(4, 40, 5)], None),
    "values that were never together": (
        ", UNIQUE KEY `u` (`a`, `b`)", [upd((2, 2, 2), (2, 9, 2)), upd((2, 9, 2), (2, 9, 7)), ins(4, 2, 7)],
        r"same values \(2, 7\) of its unique key `u`",
    ),
    "a check": (", CHECK (`a` < 5)", [gone(2, 2, 2), ins(4, 4, 4)], None),
    "a check added later": (
        "", [gone(3, 3, 3), "ALTER TABLE orders ADD CONSTRAINT small CHECK (a < 3)"],
        r"would have rows \(`3`\) that violate its check constraint `small` \(a < 3\) .* since `ALTER TABLE orders ADD C",
    ),
    "a check that fits": ("", [gone(3, 3, 3), "ALTER TABLE orders ADD CONSTRAINT small CHECK (a < 4)"], None),
    "a check of other columns": ("", [upd((3, 3, 3), (3, 3, 1)), "ALTER TABLE orders ADD CHECK (a DIV 2 < 2)"], None),
    "a check that isn't computed": (
        "", [gone(3, 3, 3), "ALTER TABLE orders ADD CONSTRAINT small CHECK (a DIV 2 < 2)"],
        r"may have rows \(`3`\) that violate its check constraint `small` \(a DIV 2 < 2\)",
    ),
    "a check of values that were never together": (
        ", CONSTRAINT `c` CHECK (`a` <= `b`)", [upd((2, 2, 2), (2, 1, 2)), upd((2, 1, 2), (2, 1, 1))],
        r"would have rows \(`2`\) that violate its check constraint `c` \(`a` <= `b`\)",
    ),
    "a partition": (
        " PARTITION BY RANGE (`id`) (PARTITION p VALUES LESS THAN (10))",
        [gone(2, 2, 2), "ALTER TABLE orders PARTITION BY LIST (id) (PARTITION p VALUES IN (1, 3))"],
        r"would have rows \(`2`\) that none of its partitions holds .* since `ALTER TABLE orders PARTITION BY LIST",
    ),
    "a partition that fits": (
        " PARTITION BY RANGE (`id` DIV 2) (PARTITION p VALUES LESS THAN (10))", [gone(2, 2, 2), ins(4, 4, 4)], None,
    ),
    "a partition by an expression": (
        "", [gone(2, 2, 2), "ALTER TABLE orders PARTITION BY RANGE (id DIV 2) (PARTITION p VALUES LESS THAN (10))"],
        r"may have rows \(`2`\) that none of its partitions holds .* by an expression",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEMANDS)
def test_what_a_table_demands(name: str, tmp_path: Path) -> None:
    more, transactions, said = DEMANDS[name]
    inside, partitions = ("", more) if more.startswith(" PARTITION") else (more, "")
    create = f"CREATE TABLE `orders` (`id` int, `a` int, `b` int, PRIMARY KEY (`id`){inside}){partitions}"
    archive = Archive(tmp_path / "archive")
    rows = [(row(n, n, n), {}) for n in (1, 2, 3)]
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", T, rows, create))
    for seq, step in enumerate(transactions, 1):
        if isinstance(step, str):
            archive.window([], ddls=[archive.ddl(seq, step, [("shop", "orders")])])
        else:
            archive.window(step)
    if said is None:
        without(archive, tmp_path / "out", f"{UUID}:1")
        return
    with pytest.raises(NotComputable, match=said) as caught:
        without(archive, tmp_path / "out", f"{UUID}:1")
    assert "--exclude 'shop.orders'" in caught.value.hint


def test_unlogged_foreign_keys_are_refused(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    edge = Cascade("shop", "items", "shop", "orders", "CASCADE", "NO ACTION")
    items = table("shop", "items", column("id"), column("o"))
    tables = [archive.baseline("s", of, [], CREATE) for of in (T, items)]
    archive.snapshot("s", archive.mark(0), archive.mark(0), *tables, cascades=[edge])
    archive.window(ins(4, 4, 4))
    with pytest.raises(
        NotComputable, match=r"`shop\.items` can't be restored .* `shop\.orders`: foreign keys"
    ) as caught:
        without(archive, tmp_path / "out", f"{UUID}:1")
    assert "--exclude 'shop.items'" in caught.value.hint
    with pytest.raises(NotComputable, match=r"foreign keys"):
        restore(
            archive.store,
            archive.state,
            RestoreRequest("latest", ("shop.items",), leave_out=(f"{UUID}:1",), dry_run=True),
        )
    without(archive, tmp_path / "out", f"{UUID}:1", exclude=("shop.items",))
    assert rows_in(tmp_path / "out") == []
