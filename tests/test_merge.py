"""The merge against an oracle that replays the same history one change at a time in Python dictionaries."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from handmade import ORDERS, Archive, Image, Row, column, delete, insert, table, update
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recovery.archive.actions import Segment
from recovery.errors import ArchiveDamaged
from recovery.merge import Merger
from recovery.schema import Table

KEYED = table("d", "k", column("id"), column("part", "varchar"), column("v", "varchar"), key=("id", "part"))
KEYLESS = table("d", "bag", column("a"), column("b", "varchar"), key=())


def rows_of(merger: Merger, root: Path, of: Table, base: list[Any], segments: list[Segment], low: int, cut: int) -> Any:
    """Merged rows as [(values, exact)]; base holds local paths."""
    merged = merger.merge(of, base, [root / s.path for s in segments], low, cut)
    found = merger.connection.sql(f"SELECT * FROM ({merged.sql}) ORDER BY {merged.order_by}").fetchall()
    return [(row[:-1], row[-1] or {}) for row in found]


def base_files(archive: Archive, root: Path, of: Table, rows: list[tuple[Row, dict[str, str]]]) -> list[Path]:
    return [root / o.path for o in archive.baseline("s", of, rows, "", files=2 if len(rows) > 1 else 1).objects]


# --- generated histories ----------------------------------------------------------------------------------------------

ids = st.integers(0, 5)
parts = st.sampled_from(["", "a", "A", "ä", "a ", "\0", "'"])
values = st.sampled_from([None, "", "x", "X", "long" * 40, "\\", "\n;\n"])
steps = st.lists(
    st.tuples(st.sampled_from(["put", "del", "move", "swap"]), ids, parts, ids, parts, values), max_size=40
)
sizes = st.integers(1, 4)


def play_keyed(state: dict[tuple[int, str], str | None], step: Any, ordinal: int) -> list[Image]:
    """Apply one step to the oracle's state and give its row images; [] if it doesn't apply."""
    op, a, p, b, q, v = step
    here, there = (a, p), (b, q)

    def row(key: tuple[int, str], value: str | None) -> Row:
        return {"id": key[0], "part": key[1], "v": value}

    if op == "put" and here not in state:
        state[here] = v
        return insert(KEYED, ordinal, **row(here, v))
    if op == "put":
        images = update(KEYED, row(here, state[here]), row(here, v), ordinal)
        state[here] = v
        return images
    if op == "del" and here in state:
        return delete(KEYED, ordinal, **row(here, state.pop(here)))
    if op == "move" and here in state and there not in state:
        images = update(KEYED, row(here, state[here]), row(there, v), ordinal)
        del state[here]
        state[there] = v
        return images
    if op == "swap" and here in state and there in state and here != there:  # through a third key, as servers must
        x, y, spare = state[here], state[there], (99, "")
        state[here], state[there] = y, x
        return [
            *update(KEYED, row(here, x), row(spare, x), ordinal),
            *update(KEYED, row(there, y), row(here, y), ordinal + 1),
            *update(KEYED, row(spare, x), row(there, x), ordinal + 2),
        ]
    return []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=steps, size=sizes, low=st.integers(0, 8), cut=st.integers(0, 12))
def test_keyed_history(tmp_path_factory: pytest.TempPathFactory, history: Any, size: int, low: int, cut: int) -> None:
    root = tmp_path_factory.mktemp("m")
    archive = Archive(root)
    state: dict[tuple[int, str], str | None] = {}
    states = [dict(state)]
    transactions = []
    for at in range(0, len(history), size):
        images: list[Image] = []
        for step in history[at : at + size]:
            images += play_keyed(state, step, len(images))
        transactions.append(images)
        states.append(dict(state))
    half = len(transactions) // 2
    for window in (transactions[:half], transactions[half:]):
        if window:
            archive.window(*window)
    low, cut = sorted((min(low, len(transactions)), min(cut, len(transactions))))
    start = [({"id": k[0], "part": k[1], "v": v}, {}) for k, v in states[low].items()]
    with Merger(root, 512 * 1024**2) as merger:
        found = rows_of(
            merger, root, KEYED, base_files(archive, root, KEYED, start), list(archive.state.segments), low, cut
        )
    expected = [(*k, v) for k, v in states[cut].items()]
    assert [values for values, _ in found] == sorted(expected, key=lambda r: (r[0], r[1].encode()))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(st.tuples(st.booleans(), st.integers(0, 3), values, st.integers(0, 3)), max_size=30),
    start=st.lists(st.tuples(st.none() | ids, values), max_size=8),
)
def test_keyless_history(tmp_path_factory: pytest.TempPathFactory, history: Any, start: Any) -> None:
    root = tmp_path_factory.mktemp("m")
    archive = Archive(root)
    bag = Counter(start)
    transactions = []
    for add, a, b, pick in history:
        present = sorted(bag.elements(), key=repr)
        if add or not present:
            bag[a, b] += 1
            transactions.append(insert(KEYLESS, a=a, b=b))
        elif pick:
            gone = present[pick % len(present)]
            bag[gone] -= 1
            bag[a, b] += 1
            transactions.append(update(KEYLESS, {"a": gone[0], "b": gone[1]}, {"a": a, "b": b}))
        else:
            gone = present[0]
            bag[gone] -= 1
            transactions.append(delete(KEYLESS, a=gone[0], b=gone[1]))
    if transactions:
        archive.window(*transactions)
    base = base_files(archive, root, KEYLESS, [({"a": a, "b": b}, {}) for a, b in start])
    with Merger(root, 512 * 1024**2) as merger:
        found = rows_of(merger, root, KEYLESS, base, list(archive.state.segments), 0, 1000)
    assert Counter(values for values, _ in found) == +bag


# --- single cases -----------------------------------------------------------------------------------------------------


def test_keys_whose_value_is_in_the_exact_map(tmp_path: Path) -> None:
    days = table("d", "days", column("day", "date"), column("v"), key=("day",))
    archive = Archive(tmp_path)
    start = [
        ({"day": date(2026, 1, 1), "v": 1}, {}),
        ({"day": None, "v": 2}, {"day": "0000-00-00"}),
        ({"day": None, "v": 3}, {"day": "2026-01-00"}),
    ]
    archive.window(
        delete(days, exact={"day": "0000-00-00"}, v=2),
        insert(days, day=date(2026, 1, 2), v=4),
        delete(days, day=date(2026, 1, 1), v=1),
    )
    with Merger(tmp_path, 512 * 1024**2) as merger:
        found = rows_of(
            merger, tmp_path, days, base_files(archive, tmp_path, days, start), list(archive.state.segments), 0, 9
        )
    assert found == [((None, 3), {"day": "2026-01-00"}), ((date(2026, 1, 2), 4), {})]


def test_text_keys_given_by_bytes_are_other_keys_than_texts_that_look_like_them(tmp_path: Path) -> None:
    of = table("d", "codes", column("k", "varchar", charset="sjis"), column("v"), key=("k",))
    archive = Archive(tmp_path)
    start = [({"k": None, "v": 1}, {"k": "0x5C"}), ({"k": "0x5C", "v": 2}, {}), ({"k": "\\", "v": 3}, {})]
    archive.window(
        delete(of, exact={"k": "0x5C"}, v=1), delete(of, k="\\", v=3), insert(of, exact={"k": "0x5C5C"}, v=4)
    )
    with Merger(tmp_path, 512 * 1024**2) as merger:
        found = rows_of(
            merger, tmp_path, of, base_files(archive, tmp_path, of, start), list(archive.state.segments), 0, 9
        )
    assert found == [((None, 4), {"k": "0x5C5C"}), (("0x5C", 2), {})]


def test_keyless_rows_that_differ_only_in_exact_text_or_sign_of_zero(tmp_path: Path) -> None:
    bag = table("d", "bag", column("f", "double"), column("day", "date"), key=())
    archive = Archive(tmp_path)
    start = [
        ({"f": 0.0}, {"day": "0000-00-00"}),
        ({"f": -0.0}, {"day": "0000-00-00"}),
        ({"f": 0.0}, {"day": "2026-00-00"}),
    ]
    archive.window(delete(bag, exact={"day": "0000-00-00"}, f=-0.0))
    with Merger(tmp_path, 512 * 1024**2) as merger:
        found = rows_of(
            merger, tmp_path, bag, base_files(archive, tmp_path, bag, start), list(archive.state.segments), 0, 9
        )
    assert sorted((repr(v[0]), e["day"]) for v, e in found) == [("0.0", "0000-00-00"), ("0.0", "2026-00-00")]


def test_a_keyless_row_removed_too_often_is_damage(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.window(delete(KEYLESS, a=1, b="x"))
    with Merger(tmp_path, 512 * 1024**2) as merger, pytest.raises(ArchiveDamaged, match=r"d\.bag.*removed more often"):
        rows_of(merger, tmp_path, KEYLESS, [], list(archive.state.segments), 0, 9)


def test_column_names_that_mean_something_elsewhere(tmp_path: Path) -> None:
    names = [
        "id",
        "_rb_op",
        "_RB_exact",
        "rowid",
        "filename",
        "v0",
        "e",
        'a"b',
        "select",
        "ÄÖ",
        "file_row_number",
        "k0",
    ]
    odd = table("d", "odd", *(column(n) for n in names))
    archive = Archive(tmp_path)
    row = {n: i for i, n in enumerate(names)}
    archive.window([Image(odd, "insert", 0, row)], [Image(odd, "insert", 0, {**row, "id": 7})])
    with Merger(tmp_path, 512 * 1024**2) as merger:
        found = rows_of(merger, tmp_path, odd, [], list(archive.state.segments), 0, 9)
    assert [v for v, _ in found] == [tuple(range(len(names))), (7, *range(1, len(names)))]


def test_generated_columns_are_left_out_unless_they_are_the_key(tmp_path: Path) -> None:
    of = table("d", "g", column("id"), column("twice", generated=True), column("k", generated=True), key=("k",))
    archive = Archive(tmp_path)
    archive.window(insert(of, id=1, twice=2, k=5), insert(of, id=2, twice=4, k=6), delete(of, id=1, twice=2, k=5))
    with Merger(tmp_path, 512 * 1024**2) as merger:
        merged = merger.merge(of, [], [tmp_path / s.path for s in archive.state.segments], 0, 9)
        assert merged.columns == (0, 2)
        assert merger.connection.sql(merged.sql).fetchall() == [(2, 6, None)]


def test_a_file_without_the_table_s_columns_is_damage(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.window(insert(ORDERS, id=1, v="x"))
    path = tmp_path / archive.state.segments[0].path
    pq.write_table(pq.read_table(path).drop_columns(["v"]), tmp_path / "other.parquet")
    with Merger(tmp_path, 512 * 1024**2) as merger, pytest.raises(ArchiveDamaged, match="column `v` is missing"):
        merger.merge(ORDERS, [], [tmp_path / "other.parquet"], 0, 9)


def test_a_scratch_path_with_wildcards_and_quotes(tmp_path: Path) -> None:
    root = tmp_path / "a*b[c]d'?"
    root.mkdir()
    archive = Archive(root)
    archive.window(insert(ORDERS, id=1, v="x"))
    with Merger(root, 512 * 1024**2) as merger:
        assert rows_of(merger, root, ORDERS, [], list(archive.state.segments), 0, 9) == [((1, "x"), {})]
