"""Row events' flags in change segments: what the binlog says of foreign keys, event by event, on real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rowback import Rowback

from testservers import Server

SCRIPT = """
CREATE DATABASE shop;
CREATE TABLE shop.par (id INT PRIMARY KEY);
CREATE TABLE shop.ch (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES par (id) ON DELETE CASCADE);
INSERT INTO shop.par VALUES (1), (2), (3);
INSERT INTO shop.ch VALUES (1, 1), (2, 2), (3, 3);
DELETE FROM shop.par WHERE id = 1;
SET foreign_key_checks = 0;
DELETE FROM shop.par WHERE id = 2;
SET foreign_key_checks = 1, unique_checks = 0;
DELETE FROM shop.par WHERE id = 3;
"""


def flags_of_deletes(root: Path) -> list[tuple[str, int, int]]:
    """(table, id, flags), in the stream's order."""
    found = []
    names = ["_rb_seq", "_rb_ordinal", "_rb_op", "_rb_flags", "id"]
    for path in root.rglob("changes/**/*.parquet"):
        table = path.relative_to(root).parts[3].split(".")[1]
        for seq, ordinal, op, flags, number in zip(
            *pq.ParquetFile(path).read().select(names).to_pydict().values(), strict=True
        ):
            if op == "delete":
                found.append(((seq, ordinal), (table, number, flags)))
    return [what for _, what in sorted(found)]


NATIVE = [("par", 1, 1), ("par", 2, 3), ("par", 3, 5)]


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("fixture", "options", "expected"),
    [
        ("fresh_mariadb", {"log_bin_compress": "ON", "log_bin_compress_min_len": 10}, NATIVE),
        ("fresh_mysql", {"innodb_native_foreign_keys": "ON", "binlog_transaction_compression": "ON"}, NATIVE),
        ("fresh_mysql", {}, [("ch", 1, 18), ("par", 1, 17), ("par", 2, 19), ("ch", 3, 22), ("par", 3, 21)]),
    ],
    ids=["mariadb", "mysql-native", "mysql"],
)
def test_flags(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str, options: dict[str, Any],
    expected: list[tuple[str, int, int]],
) -> None:  # fmt: skip
    """1 the statement's end, 2 checks off (MySQL sets it on the child's events that it makes itself), 4 unique checks off,
    16 foreign keys were carried out above the engine."""
    source: Server = request.getfixturevalue(fixture)(options=options, name="source")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    source.load(SCRIPT)
    rowback.run("capture", "--until-caught-up")
    assert flags_of_deletes(tmp_path / "rowback/archive") == expected
