"""Writes recovery/charset_tables.npz: what each byte code of MySQL's legacy character sets means, asked of the servers.

    python deploy/charset_tables.py [FILE]

Starts a throw-away MySQL and MariaDB (deploy/provision.sh). Every code of every set is stored in a column of that set and
converted to utf8mb4 and back. An entry is the code point if the code is stored as it is, has one character, and that
character leads back to the same code, on both servers; STORABLE if it is stored as it is on both, but has no such
character, MYSQL_ONLY or MARIADB_ONLY if one server alone stores it; MALFORMED if none does. The Unicode sets need no
table: recovery/charset.py computes them.

tests/test_charset.py compares the file with the servers: run this again when that fails after an upgrade.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recovery.charset import (
    DOUBLE_BYTE,
    MALFORMED,
    MARIADB_ONLY,
    MYSQL_ONLY,
    SINGLE_BYTE,
    STORABLE,
    TABLES_FILE,
    gb18030_code,
)
from testservers import MariaDBServer, MySQLServer, Server

_BATCH = 20_000
_SCRATCH = "charset_tables"


def codes(charset: str, bytes_each: int) -> Iterator[tuple[int, bytes]]:
    """(place in the table, code) of all codes of that many bytes, valid or not."""
    if bytes_each == 1:
        yield from ((i, bytes([i])) for i in range(256))
    elif bytes_each == 2:
        yield from ((i, i.to_bytes(2, "big")) for i in range(0x8000, 0x10000))
    elif bytes_each == 3:
        yield from ((i, b"\x8f" + i.to_bytes(2, "big")) for i in range(0x8000, 0x10000))
    else:
        yield from ((i, gb18030_code(i)) for i in range(50_400))


def sizes(charset: str) -> tuple[int, ...]:
    """The lengths that a set's codes have, in bytes."""
    if charset in SINGLE_BYTE:
        return (1,)
    return {"ujis": (1, 2, 3), "eucjpms": (1, 2, 3), "gb18030": (1, 2, 4)}.get(charset, (1, 2))


def ask(server: Server, charset: str, wanted: list[tuple[int, bytes]]) -> dict[int, int]:
    """What this server says of each code: place -> code point, STORABLE or MALFORMED."""
    found: dict[int, int] = {}
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {_SCRATCH}")
        for start in range(0, len(wanted), _BATCH):
            part = wanted[start : start + _BATCH]
            cursor.execute(f"CREATE TABLE {_SCRATCH}.t (n INT, c VARCHAR(9) CHARACTER SET {charset}) ENGINE = MyISAM")
            rows = ",".join(f"({n},X'{code.hex()}')" for n, code in part)
            cursor.execute(f"INSERT INTO {_SCRATCH}.t VALUES {rows}")
            text = "CONVERT(c USING utf8mb4)"
            cursor.execute(
                f"SELECT n, CAST(c AS BINARY), CAST({text} AS BINARY), CAST(CONVERT({text} USING {charset}) AS BINARY)"
                f" FROM {_SCRATCH}.t"
            )
            stored = {n: answer for n, *answer in cursor.fetchall()}
            found |= {n: _judged(code, *stored[n]) for n, code in part}
            cursor.execute(f"DROP TABLE {_SCRATCH}.t")
    return found


def _judged(code: bytes, stored: bytes, text: bytes, back: bytes) -> int:
    if stored != code:
        return MALFORMED
    try:
        characters = text.decode()
    except UnicodeDecodeError:
        return STORABLE
    if len(characters) != 1 or back != code:
        return STORABLE
    return ord(characters)


def agreed(answers: dict[str, dict[int, int]], wanted: list[tuple[int, bytes]]) -> dict[int, int]:
    """answers: by flavor."""
    result = {}
    for n, _ in wanted:
        views = {flavor: answer[n] for flavor, answer in answers.items()}
        keeping = [flavor for flavor, view in views.items() if view != MALFORMED]
        if len(set(views.values())) == 1:
            result[n] = next(iter(views.values()))
        elif len(keeping) == 1:
            result[n] = MYSQL_ONLY if keeping == ["mysql"] else MARIADB_ONLY
        else:
            result[n] = STORABLE
    return result


def tables(servers: list[Server], charset: str) -> dict[str, Any]:
    """The arrays of one set, named `<set>_<bytes>`."""
    having = servers if charset != "gb18030" else [s for s in servers if s.flavor == "mysql"]
    result = {}
    single = np.full(256, MALFORMED, np.uint16)
    for size in sizes(charset):
        wanted = list(codes(charset, size))
        if size == 2:  # a byte that is a code by itself leads no other
            wanted = [(n, code) for n, code in wanted if single[code[0]] in (MALFORMED, MYSQL_ONLY, MARIADB_ONLY)]
        answers = agreed({server.flavor: ask(server, charset, wanted) for server in having}, wanted)
        table = np.full({1: 256, 4: 50_400}.get(size, 65_536), MALFORMED, np.uint16)
        for n, value in answers.items():
            assert value < 0x10000, f"{charset}: the table holds 16 bits"
            table[n] = value
        if size == 1:
            single = table
        result[f"{charset}_{size}"] = table
    return result


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TABLES_FILE
    arrays: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        MySQLServer(Path(folder) / "mysql", binlog=False) as mysql,
        MariaDBServer(Path(folder) / "mariadb", binlog=False) as mariadb,
    ):
        for charset in sorted(SINGLE_BYTE | DOUBLE_BYTE):
            arrays |= tables([mysql, mariadb], charset)
            mine = [array for name, array in arrays.items() if name.rpartition("_")[0] == charset]
            print(charset, sum(int(((array < 0xD800) | (array > 0xDFFF)).sum()) for array in mine), "characters")
    np.savez_compressed(target, **arrays)
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
