"""Looking one key up reads parts of segments: the answer is that of all rows, before and after compaction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade import ORDERS, SECOND, Archive, column, delete, insert, table, update

import bench_archive
from recovery.archive import lookup
from recovery.archive.compaction import Policy
from recovery.archive.compactor import Compactor
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.changes import ChangeQuery, changes
from recovery.errors import ArchiveDamaged

LAYOUT = Layout("default", "bench")


def history(store: Store, state: ArchiveState, label: str, key: str) -> list[tuple[int, int, str]]:
    db, name = label.split(".")
    found = changes(store, state, ChangeQuery((db, name), key=key, newest_first=False)).changes
    return [(c.seq, c.ordinal, c.op) for c in found]


def hour_over(archive: Archive) -> None:
    """Capture has seen that the hour of all these changes is over."""
    now = archive.checkpoint()
    archive.commit(replace(now, covered_to_us=now.covered_to_us + 2 * 3600 * SECOND))


def compacted(store: FileStore, layout: Layout) -> ArchiveState:
    done = Compactor(store, layout, Log(store, layout), Policy()).run(Log(store, layout).read())
    assert done.versions, "nothing was compacted"
    return Log(store, layout).read()


def test_a_key_among_many_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_archive, "SEGMENT_CHANGES", 40_000)
    state, _truth = bench_archive.build(tmp_path, 80_000, 200_000)
    store = FileStore(tmp_path)
    files = [str(tmp_path / s.path) for s in state.segments]
    rows = duckdb.execute(
        "SELECT id, _rb_seq, _rb_ordinal, replace(_rb_op, '_after', '') FROM read_parquet(?) "
        "WHERE _rb_op <> 'update_before' AND id IN (0, 2, 4444, 4445, 159998, 7) ORDER BY _rb_seq, _rb_ordinal",
        [files],
    ).fetchall()
    wanted = {key: [(s, o, op) for i, s, o, op in rows if i == key] for key in (0, 2, 4444, 4445, 159_998, 7)}
    assert sum(map(len, wanted.values())) > 5
    read: list[int] = []
    whole = lookup.key_rows

    def watched(*given: object) -> pa.Table | None:
        found = whole(*given)  # type: ignore[arg-type]
        read.append(-1 if found is None else found.num_rows)
        return found

    monkeypatch.setattr("recovery.changes.key_rows", watched)
    for now in (state, compacted(store, LAYOUT)):
        for key, expected in wanted.items():
            assert history(store, now, "bench.big", str(key)) == expected
    assert -1 not in read, "a segment was read whole"
    assert sum(read) < 100


def test_compacted_segments_are_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the row groups that may hold the key are decoded."""
    monkeypatch.setattr(bench_archive, "SEGMENT_CHANGES", 60_000)
    bench_archive.build(tmp_path, 150_000, 180_000)
    state = compacted(FileStore(tmp_path), LAYOUT)
    groups = [pq.read_metadata(tmp_path / s.path).num_row_groups for s in state.segments]
    decoded: list[int] = []
    inside = lookup._excluded

    def watched(*given: object) -> bool:
        out = inside(*given)  # type: ignore[arg-type]
        decoded.append(not out)
        return out

    monkeypatch.setattr(lookup, "_excluded", watched)
    history(FileStore(tmp_path), state, "bench.big", "123456")
    assert sum(groups) >= 5
    assert len(decoded) == sum(groups)
    assert sum(decoded) <= 2 * len(groups)


@pytest.fixture
def moves(tmp_path: Path) -> Archive:
    """Keys that move, far apart and back again, beside rows that stay."""
    archive = Archive(tmp_path / "archive")
    archive.window(insert(ORDERS, id=3, v="c"), insert(ORDERS, id=5, v="x"))
    archive.window(
        update(ORDERS, {"id": 3, "v": "c"}, {"id": 9, "v": "c"}),
        update(ORDERS, {"id": 5, "v": "x"}, {"id": 5, "v": "y"}),
    )
    archive.window(update(ORDERS, {"id": 9, "v": "c"}, {"id": 3, "v": "d"}), delete(ORDERS, id=5, v="y"))
    hour_over(archive)
    return archive


def test_a_key_that_moves_is_found_under_both(moves: Archive) -> None:
    for state in (moves.state, compacted(moves.store, moves.layout)):
        assert history(moves.store, state, "shop.orders", "9") == [(3, 0, "update"), (5, 0, "update")]
        assert history(moves.store, state, "shop.orders", "3") == [(1, 0, "insert"), (3, 0, "update"), (5, 0, "update")]
        assert history(moves.store, state, "shop.orders", "5") == [(2, 0, "insert"), (4, 0, "update"), (6, 0, "delete")]
        assert history(moves.store, state, "shop.orders", "4") == []


def test_keys_at_the_edges_of_their_types(tmp_path: Path) -> None:
    """Unsigned values beyond the signed range, and texts that bytes and characters order differently."""
    wide = table("shop", "wide", column("id", "bigint", unsigned=True))
    words = table("shop", "words", column("w", "varchar"), key=("w",))
    ids, texts = [0, 1, 2**63 - 1, 2**63, 2**64 - 1], ["", "a", "~", "\xff", "\uffff", "\U0001f600"]
    archive = Archive(tmp_path / "archive")
    archive.window(*(insert(wide, id=i) for i in ids))
    archive.window(*(insert(words, w=w) for w in texts))
    archive.window(*(delete(wide, id=i) for i in ids), *(delete(words, w=w) for w in texts))
    hour_over(archive)
    for state in (archive.state, compacted(archive.store, archive.layout)):
        for value in ids:
            assert [c[2] for c in history(archive.store, state, "shop.wide", str(value))] == ["insert", "delete"]
        for text in texts:
            assert [c[2] for c in history(archive.store, state, "shop.words", text)] == ["insert", "delete"]


def test_damage_where_it_reads_is_named(moves: Archive) -> None:
    path = Path(moves.store.root) / moves.state.segments[0].path
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArchiveDamaged, match="doesn't have the bytes that were recorded"):
        history(moves.store, moves.state, "shop.orders", "3")
