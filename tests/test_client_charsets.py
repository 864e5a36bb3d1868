"""Statements of clients that don't speak UTF-8: definitions come back as they were, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from oracle import assert_restored
from rowback import Rowback

from recovery.column_spec import Default, column_spec
from recovery.tokens import Reader, tokens_of
from testservers import Server

# Character set -> bytes that Python's codec takes for another character than the servers do.
ODD = {
    "cp866": b"\xfd", "koi8u": b"\x95", "greek": b"\xa1", "hebrew": b"\xaf", "cp932": b"\x81\x5f", "latin1": b"\x81\xe9",
    "sjis": b"\x83\x5c\\\\",
}  # fmt: skip
REFUSED = (
    ("latin1", b"CHAR(9) CHARACTER SET utf8mb4 DEFAULT _cp1251'\xe9'"),
    ("latin1", b"VARBINARY(9) NOT NULL DEFAULT 'x\xe9'"),
    ("binary", "VARCHAR(9) CHARACTER SET latin1 NOT NULL DEFAULT 'é'".encode()),
)


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_on_a_real_server(flavor: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fresh: Any = request.getfixturevalue(f"fresh_{flavor}")
    source: Server = fresh(name="clients")
    target: Server = request.getfixturevalue(f"{flavor}_target")
    rowback = Rowback(tmp_path / "rowback", source)
    source.load("CREATE DATABASE c; CREATE TABLE c.t (id INT PRIMARY KEY); INSERT INTO c.t VALUES (1);")
    rowback.catch_up()
    rowback.run("snapshot")

    connection = source.connect(database="c")

    def speak(charset: str, statement: bytes) -> None:
        for text in (f"SET NAMES {charset}".encode(), statement):
            connection.query(text)

    odd = ODD if flavor == "mariadb" else {**ODD, "gb18030": b"\xa8\xbc"}
    for charset, raw in odd.items():
        column = f"ALTER TABLE t ADD {charset} VARCHAR(9) CHARACTER SET utf8mb4 NOT NULL DEFAULT 'x".encode()
        speak(charset, column + raw + b"' COMMENT '" + raw + b"'")
    speak("binary", "ALTER TABLE t ADD `é` BLOB COMMENT 'ä', COMMENT='ü'".encode())
    speak("utf8mb4", "CREATE TABLE u (v VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT _latin1'é')".encode())
    for number, (charset, definition) in enumerate(REFUSED):
        speak(charset, f"CREATE TABLE r{number} (c ".encode() + definition + b")")
    source.load("INSERT INTO c.t (id) VALUES (2); INSERT INTO c.u VALUES (DEFAULT)")
    rowback.catch_up()
    rowback.run("restore", "--to", "latest", "--tables", "c.t,c.u", "--output", str(tmp_path / "out"))
    assert_restored(source, target, tmp_path / "out", "c", ("t", "u"))
    for name in (f"r{number}" for number in range(len(REFUSED))):
        refused = rowback.run(
            "restore", "--to", "latest", "--tables", f"c.{name}", "--output", str(tmp_path / name), check=False
        )
        assert refused.returncode != 0
        assert "of a client in" in refused.stderr, refused.stderr


@pytest.mark.parametrize(
    ("definition", "known"),
    [
        ("v CHAR(9) DEFAULT 'é'", True), ("v CHAR(9) DEFAULT _utf8mb4'e'", True), ("v CHAR(9) DEFAULT _latin1'é'", False),
        ("v CHAR(9) DEFAULT _ucs2'ab'", False), ("v CHAR(9) DEFAULT _cp1251 'é'", False),
    ],
)  # fmt: skip
def test_what_older_rows_get(definition: str, *, known: bool) -> None:
    spec, _ = column_spec(Reader(tokens_of(definition)))
    assert spec.default is not None
    assert spec.default.known is known
    assert known or spec.default == Default("", known=False)
