"""An archive that the first version of Rowback wrote (format 1, tests/golden/format1) is read, extended and compacted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from handmade import ORDERS, T0, UUID, insert
from handmade import Archive as Writer
from test_restore_synthetic import rows_in

from recovery.archive.actions import Checkpoint
from recovery.archive.compaction import Policy
from recovery.archive.compactor import Compactor
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.changes import ChangeQuery, changes
from recovery.restore import RestoreRequest, restore
from recovery.schema import FORMAT

GOLDEN = Path(__file__).parent / "golden" / "format1"
LAYOUT = Layout("default", "shop")
# The rows of shop.orders after each transaction, as the statements that made them say.
STATES = {
    0: ["(9,'old')"],
    2: ["(1,_utf8mb4 X'C3A4')", "(2,'b')", "(9,'old')"],
    4: ["(1,_utf8mb4 X'C3A4')", "(3,NULL)", "(9,'old')"],
    5: ["(1,_utf8mb4 X'C3A4')", "(4,'moved')", "(9,'old')"],
}


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    shutil.copytree(GOLDEN, tmp_path / "archive")
    return FileStore(tmp_path / "archive")


def check(store: FileStore, into: Path) -> None:
    state = Log(store, LAYOUT).read()
    for seq, rows in STATES.items():
        shutil.rmtree(into, ignore_errors=True)
        to = f"{UUID}:{seq}" if seq else "binlog.000001:900"
        restore(store, state, RestoreRequest(to, ("shop.orders",), into))
        assert rows_in(into) == rows
    found = changes(store, state, ChangeQuery(("shop", "orders"), newest_first=False)).changes
    assert [(c.seq, c.op) for c in found][:6] == [
        (1, "insert"), (1, "insert"), (2, "update"), (3, "delete"), (4, "insert"), (5, "update"),
    ]  # fmt: skip


def test_an_archive_of_format_1_is_read(store: FileStore, tmp_path: Path) -> None:
    assert {json.loads(store.get(i.key))["format"] for i in store.list("default/shop/log/")} == {1}
    check(store, tmp_path / "out")
    state = Log(store, LAYOUT).read()
    assert (state.version, state.generation, len(state.ddls), len(state.gaps)) == (8, 1, 1, 1)


def test_it_goes_on_in_the_format_of_today_and_is_compacted(store: FileStore, tmp_path: Path) -> None:
    log = Log(store, LAYOUT, index_every=1)
    writer = Writer.__new__(Writer)
    writer.store, writer.layout, writer.log = store, LAYOUT, log
    writer.flavor, writer.gtids, writer.seq, writer.state = "mysql", True, 5, log.read()
    writer.flags = None
    state = writer.window(insert(ORDERS, id=8, v="new"))
    over = Checkpoint(6, "binlog.000001", 6900, f"{UUID}:1-6", T0 + 6_000_000, T0 + 2 * 3_600_000_000)
    state = log.commit(state, lambda _: [over])
    done = Compactor(store, LAYOUT, log, Policy(keyless_days=0)).run(state)
    assert done.replaced == 8, "four segments of orders, four transactions segments"
    assert done.objects == 2
    formats = [json.loads(store.get(i.key))["format"] for i in store.list("default/shop/log/")]
    assert formats == [1] * 8 + [FORMAT] * 3
    check(store, tmp_path / "out")
    newest = Log(store, LAYOUT).read()
    restore(store, newest, RestoreRequest("latest", ("shop.orders",), tmp_path / "new"))
    assert rows_in(tmp_path / "new") == ["(1,_utf8mb4 X'C3A4')", "(4,'moved')", "(8,'new')", "(9,'old')"]
