"""Every refusal of a plan says which statement, where it stands and the way out: one case for each place in the code.

The last test reads the code: a refusal that no case provokes fails it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from handmade import UUID, Archive, column, delete, insert, table

import recovery
from recovery.archive.actions import Cascade, Session, Writer
from recovery.errors import TargetError
from recovery.restore import RestoreRequest, restore
from recovery.schema import Table

V = column("v", "varchar", octets=80)
T = table("shop", "orders", column("id"), V)
ODD = "CREATE TABLE `orders` ('REFERENCES x"
CREATE = "CREATE TABLE `orders` (`id` int NOT NULL, `v` varchar(20), PRIMARY KEY (`id`))"
PARTITIONED = CREATE + " PARTITION BY HASH (id) PARTITIONS 2"
NAMED = [("shop", "orders")]
Statement = tuple[str, Sequence[tuple[str, str]] | None]


@dataclass(frozen=True)
class Case:
    """Statements on shop.orders (id, v), with a row of table `after` behind them; why: how the message ends."""

    why: str
    statements: tuple[Statement, ...]
    after: Table | None = None
    create: str = CREATE
    tables: tuple[str, ...] = ("shop.orders",)
    native: bool = False  # the server doesn't log what foreign keys do
    id: int = 1  # of the row that is there before


def orders(*columns: object, key: Sequence[str] = ("id",)) -> Table:
    return table("shop", "orders", column("id"), *columns, key=key)  # type: ignore[arg-type]


def alter(text: str) -> tuple[Statement, ...]:
    return ((f"ALTER TABLE orders {text}", NAMED),)


CASES = [
    Case("which tables it touches isn't known", (("CREATE SOMETHING", None),)),
    Case("which tables it touches isn't known", (("DROP DATABASE SHOP", [("SHOP", "")]),)),
    Case("it can't be parsed", (("CREATE TABLE IF NOT EXISTS orders (v text DEFAULT 'x", NAMED),)),
    Case("it spells the table's name in another way", (("TRUNCATE TABLE Orders", [("shop", "Orders")]),)),
    Case(
        "the definition of `shop.model` at that time isn't known",
        (("DROP TABLE orders", NAMED), ("CREATE TABLE orders LIKE model", NAMED)),
    ),
    Case(
        "it exchanges rows with another table",
        (("ALTER TABLE orders EXCHANGE PARTITION p WITH TABLE x", [*NAMED, ("shop", "x")]),),
    ),
    Case("`IMPORT TABLESPACE` can't be computed from the archive", alter("IMPORT TABLESPACE")),
    Case(
        "which rows are in a partition by HASH or KEY isn't known", alter("TRUNCATE PARTITION p0"), create=PARTITIONED
    ),
    Case("this kind of statement isn't followed", (("REPAIR TABLE orders", NAMED),)),
    Case("there is no table of this name at the target", (("DROP TABLE orders", NAMED),)),
    Case("none of its statements made it", (("DROP TABLE orders", NAMED),), after=T),
    Case(
        "column `n` numbered the rows that were there", alter("ADD n int AUTO_INCREMENT UNIQUE"), orders(V, column("n"))
    ),
    Case("the default of column `n` isn't a literal", alter("ADD n int DEFAULT (RAND())"), orders(V, column("n"))),
    Case("the default of column `n` is a time that the binlog doesn't have", alter("ADD n datetime DEFAULT NOW()")),
    Case(
        "not every text fits into latin1",
        alter("CONVERT TO CHARACTER SET latin1"),
        orders(column("v", "varchar", charset="latin1", octets=20)),
    ),
    Case(
        "column `n`, which was added before, was of type int and became varchar",
        (*alter("ADD n int"), *alter("MODIFY n varchar(9)")),
        orders(V, column("n", "varchar", octets=36)),
    ),
    Case(
        "the default of column `n` was changed after it was added",
        (*alter("ADD n int NOT NULL DEFAULT 7"), *alter("MODIFY n int")),
    ),
    Case(  # the rows have 1.6
        "the default of column `n` was changed after it was added",
        (*alter("ADD n decimal(8,1) DEFAULT 1.55"), *alter("MODIFY n decimal(12,4) DEFAULT 1.55")),
    ),
    Case("column `v` was of type varchar and became int", alter("MODIFY v int"), orders(column("v"))),
    Case("column `v` became shorter", alter("MODIFY v varchar(5)")),
    Case(
        "column `d` depends on the session",
        alter("ADD d timestamp DEFAULT '2026-01-01'"),
        orders(V, column("d", "timestamp")),
    ),
    Case(
        "the default of column `j` can't be computed",
        alter("ADD j binary(1) DEFAULT 'x'"),
        orders(V, column("j", "binary", octets=1)),
    ),
    Case(
        "the default of column `n` was changed after it was added",
        (*alter("ADD n int DEFAULT 1"), *alter("ALTER n SET DEFAULT 2")),
    ),
    Case("column `v` became NOT NULL and has NULLs before it", alter("MODIFY v varchar(20) NOT NULL")),
    # There and back: the first of two definitions has bent what the second one could hold.
    Case("column `v` became shorter", (*alter("MODIFY v varchar(5)"), *alter("MODIFY v varchar(20)"))),
    Case("column `v` became shorter", (*alter("MODIFY v varchar(5)"), *alter("CHANGE v v varchar(20)")), T),
    Case("column `v` was of type varchar and became int", (*alter("MODIFY v int"), *alter("MODIFY v varchar(20)")), T),
    Case(
        "column `v` became NOT NULL and has NULLs before it",
        (*alter("MODIFY v varchar(20) NOT NULL"), *alter("MODIFY v varchar(20)")),
    ),
    Case(
        "column `v` became NOT NULL and has NULLs before it",
        (*alter("MODIFY v varchar(20) NOT NULL"), *alter("MODIFY v varchar(20)")),
        T,
    ),
    Case("and rows with 0 were numbered", alter("MODIFY id int AUTO_INCREMENT"), id=0),
    Case("and rows with 0 were numbered", alter("MODIFY id int NOT NULL AUTO_INCREMENT"), T, id=0),
    Case(
        "the constraints that the other table had by then aren't those of the copy",
        (
            ("ALTER TABLE other ADD CHECK (p > 0)", [("shop", "other")]),
            ("DROP TABLE orders", NAMED),
            ("CREATE TABLE orders LIKE other", NAMED),
        ),
    ),
    Case(
        "its foreign key may have changed rows without the server logging it",
        alter("ADD FOREIGN KEY (v) REFERENCES p (id) ON DELETE CASCADE"),
        native=True,
    ),
]


def built(tmp_path: Path, case: Case) -> Archive:
    archive = Archive(tmp_path / "archive")
    rows = [({"id": case.id, "v": None}, {})]
    other = table("shop", "other", column("id"), column("p"))
    cascades = [Cascade("shop", "unrelated", "shop", "nobody", "CASCADE", "CASCADE")] if case.native else []
    baselines = [
        archive.baseline("s", T, rows, case.create),
        archive.baseline("s", other, [], "CREATE TABLE `other` (`id` int)"),
    ]
    archive.snapshot("s", archive.mark(0), archive.mark(0), *baselines, cascades=cascades)
    for statement, tables in case.statements:
        archive.window([], ddls=[archive.ddl(archive.seq + 1, statement, tables)])
    if case.after is not None:
        archive.window(insert(case.after, id=9))
    return archive


def refusal(archive: Archive, tmp_path: Path, *tables: str, to: str = "latest") -> TargetError:
    with pytest.raises(TargetError) as caught:
        restore(archive.store, archive.state, RestoreRequest(to, tables, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(TargetError) as planned:
        restore(archive.store, archive.state, RestoreRequest(to, tables, dry_run=True))
    assert (planned.value.message, planned.value.hint) == (caught.value.message, caught.value.hint)
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=[f"{n}: {c.why[:30]}" for n, c in enumerate(CASES)])
def test_a_statement_in_the_way(case: Case, tmp_path: Path) -> None:
    error = refusal(built(tmp_path, case), tmp_path, *case.tables)
    match = re.fullmatch(
        r"table `shop\.orders` can't be restored across `(.+)` at binlog\.000001:(\d+): (.*)",
        error.message,
    )
    assert match, error.message
    statement, position, why = match.groups()
    assert statement in [text for text, _ in case.statements]
    number = int(position) // 1000
    assert case.why in why
    assert error.hint == (
        f"Restore to just before it with `--before {UUID}:{number}` (transaction {number}, "
        f"2026-01-01T00:00:0{number}+00:00), take a snapshot after it, "
        "or leave the table out with `--exclude 'shop.orders'`."
    )


@pytest.mark.parametrize("native", [True, False])
def test_a_scratch_server_is_named_only_where_it_helps(tmp_path: Path, *, native: bool) -> None:
    clause = "ADD FOREIGN KEY (v) REFERENCES p (id) ON DELETE CASCADE" if native else "MODIFY v int"
    archive = built(tmp_path, Case("", (), native=native))
    session = Session(0, "utf8mb4", 45, 45, "+00:00", None, 0, complete=True)
    ddl = replace(archive.ddl(1, f"ALTER TABLE orders {clause}", NAMED), session=session)
    archive.window([], ddls=[ddl])
    error = refusal(archive, tmp_path, "shop.orders")
    assert clause in error.message
    assert ("scratch_host" in error.hint) is not native


def test_the_way_out_leads_out(tmp_path: Path) -> None:
    """Each part of the hint is a command that works; without GTIDs it is a position."""
    archive = Archive(tmp_path / "archive", gtids=False)
    baseline = archive.baseline("s", T, [({"id": 1, "v": "a"}, {})], CREATE)
    archive.snapshot("s", archive.mark(0), archive.mark(0), baseline)
    archive.window(insert(T, id=2, v="b"))
    archive.window([], ddls=[archive.ddl(2, "ALTER TABLE orders IMPORT TABLESPACE", NAMED)])
    error = refusal(archive, tmp_path, "shop.orders")
    option = re.search(r"`--to (\S+)`", error.hint)
    assert option is not None
    request = RestoreRequest(option[1], ("shop.orders",), tmp_path / "before")
    assert restore(archive.store, archive.state, request).rows == 2


# --- refusals without a statement of their own --------------------------------------------------------------------------


def a_snapshot_over_a_statement(archive: Archive) -> None:
    archive.window(insert(T, id=1), [], ddls=[archive.ddl(2, "ALTER TABLE orders ADD n int", NAMED)])
    archive.snapshot("s", archive.mark(1), archive.mark(2), archive.baseline("s", T, [], CREATE))


def no_key_and_no_lock(archive: Archive) -> None:
    bag = orders(V, key=())
    archive.window(insert(bag, id=1), insert(bag, id=2))
    archive.snapshot("s", archive.mark(1), archive.mark(2), archive.baseline("s", bag, [], CREATE))


def two_definitions(archive: Archive) -> None:
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", T, [], CREATE))
    archive.window(insert(T, id=1) + insert(orders(V, column("n")), 1, id=2))


def an_unknown_column(archive: Archive) -> None:
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", T, [], CREATE))
    archive.window([], ddls=[archive.ddl(1, "ALTER TABLE orders ADD KEY (v)", NAMED)])
    archive.window(insert(orders(V, column("n")), id=2))


def an_odd_definition(archive: Archive) -> None:
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", T, [], ODD))
    archive.window([], ddls=[archive.ddl(1, "ALTER TABLE orders ADD n int", NAMED)])


def a_filter(archive: Archive) -> None:
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", T, [], CREATE))
    archive.commit(Writer(1, "host", 1, 0, 0, (), ("shop.orders",)))
    archive.window([])


def an_unlogged_cascade(archive: Archive) -> None:
    parent = table("shop", "par", column("id"))
    edge = Cascade("shop", "orders", "shop", "par", "CASCADE", "NO ACTION")
    baselines = [archive.baseline("s", of, [], CREATE) for of in (T, parent)]
    archive.snapshot("s", archive.mark(0), archive.mark(0), *baselines, cascades=[edge])
    archive.window(delete(parent, id=1))


def no_snapshot(archive: Archive) -> None:
    archive.window(insert(T, id=1))


OTHERS: list[tuple[Callable[[Archive], None], str, str]] = [
    (a_snapshot_over_a_statement, "it ran while the snapshot was being taken without a lock", f"--before {UUID}:2"),
    (
        no_key_and_no_lock,
        "has no key and changed while snapshot s was taken without a lock, between binlog.000001:1900",
        "--lock brief",
    ),
    (
        two_definitions,
        "in transactions 1 to 1 have several definitions without a statement between them",
        "new snapshot",
    ),
    (
        an_unknown_column,
        "`ALTER TABLE orders ADD KEY (v)` at binlog.000001:1100 have a column `n` that nothing before them explains",
        "new snapshot",
    ),
    (an_odd_definition, "can't be created under its name at the target", "new snapshot"),
    (a_filter, "`shop.orders` was left out by the capture filter for a while after snapshot s", "new snapshot"),
    (
        an_unlogged_cascade,
        "rows were deleted from `shop.par` after snapshot s",
        f"transaction 1, {UUID}:1, which ends at binlog.000001:1900",
    ),
    (no_snapshot, "no snapshot can serve target `latest`", "rowback snapshot"),
]


@pytest.mark.parametrize(("build", "message", "hint"), OTHERS, ids=[b.__name__ for b, _, _ in OTHERS])
def test_other_refusals(build: Callable[[Archive], None], message: str, hint: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    build(archive)
    error = refusal(archive, tmp_path, "shop.orders")
    assert message in error.message
    assert hint in error.hint
    assert error.hint.endswith(".")
    if build is not no_snapshot:
        assert "--exclude 'shop.orders'" in error.hint


# --- none is forgotten --------------------------------------------------------------------------------------------------

ELSEWHERE = (
    "can't be restored across",  # how each of those with a statement begins
    "the columns of its partitions were changed before it",  # tests/test_partitions.py
    "its partitions are by a generated column",
    "a collation decides in which partition some of its texts are",
    "it makes a TIMESTAMP without NULL or DEFAULT under explicit_defaults_for_timestamp = OFF",  # test_statement_settings.py
    "whether the table was there before it isn't known",  # tests/test_follow.py
    "it took the default character set of database `",  # tests/test_database_defaults.py
    "the default character set of database `",
    "another column was called `",  # tests/test_redefined_columns.py
    "the foreign keys of table `",  # what can't be read is refused as a definition before
    "it can't be written for its name at the target (",  # what parses as DDL in lineage is rewritten there
)


def test_every_refusal_has_a_case() -> None:
    known = [case.why for case in CASES] + [message for _, message, _ in OTHERS] + list(ELSEWHERE)
    missing = []
    for module in ("plan", "stages", "cells", "lineage", "program", "convert"):
        source = (Path(recovery.__file__).parent / f"{module}.py").read_text()
        for call in ast.walk(ast.parse(source)):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            if call.func.id in (
                "refused",
                "_NotFollowed",
                "_block",
                "NotComputable",
                "TargetOutsideCoverage",
                "DdlInRange",
            ):
                texts = [n.value for arg in call.args for n in ast.walk(arg) if isinstance(n, ast.Constant)]
                words = max((t for t in texts if isinstance(t, str)), key=len, default="")
                if len(words) > 8 and not any(words.strip() in k or k in words or _parts(words, k) for k in known):
                    missing.append(f"{module}.py:{call.lineno}: {words}")
    assert not missing, "\n".join(missing)


def _parts(words: str, case: str) -> bool:
    """Whether the case's text has this much of a message's longest part in common."""
    return words.strip(" `:,;.") in case
