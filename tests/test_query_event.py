"""What a QUERY event tells of the session, and how its text is read."""

from __future__ import annotations

import struct

import pytest

from dataflow.events import FORMAT_DESCRIPTION, Event, logs_explicit_timestamps, query

CHARSETS = {45: "utf8mb4", 36: "cp866", 13: "sjis", 10: "swe7"}
STATUS = b"\x00" + bytes(4) + b"\x01" + bytes(8) + b"\x06\x03std" + b"\x04"


def body(text: bytes, *, client: int = 45, more: bytes = b"") -> bytes:
    status = STATUS + struct.pack("<HHH", client, 45, 45) + more
    return struct.pack("<IIBHH", 7, 0, 1, 0, len(status)) + status + b"d\0" + text


@pytest.mark.parametrize(
    ("more", "complete"),
    [
        (b"", True), (b"\x80\1\0\0", True), (b"\x10\1", True), (b"\x10\0", False), (b"\x12\x2d\0", False),
        (b"\x82\2\x81" + bytes(8), True), (b"\x82\4" + bytes(8) + b"\x81" + bytes(8), True), (b"\x83\2" + bytes(8), True),
        (b"\xc8", False), (b"\xc8\1\2", False), (b"\x05", False),
    ],
)  # fmt: skip
def test_a_variable_that_isn_t_known_is_no_complete_session(more: bytes, *, complete: bool) -> None:
    session = query(body(b"TRUNCATE t", more=more), CHARSETS).session
    assert session is not None
    assert session.complete is complete


def test_variables_of_mariadb_11_5_may_come_in_front_of_others() -> None:
    collations = b"\x83\1\x2d\0\0\x09"
    status = collations + STATUS + struct.pack("<HHH", 36, 45, 45)
    found = query(struct.pack("<IIBHH", 7, 0, 1, 0, len(status)) + status + b"d\0COMMENT '\xfd'", CHARSETS)
    assert found.statement == "COMMENT '\u00b2'"
    assert found.session is not None
    assert found.session.charset == "cp866"
    assert found.session.complete


@pytest.mark.parametrize(
    ("client", "text", "statement"),
    [
        (45, "DROP TABLE ä".encode(), "DROP TABLE ä"), (36, b"COMMENT '\xfd'", "COMMENT '\u00b2'"),
        (13, b"COMMENT '\\\\\x83\x5c'", "COMMENT '\\\\\u30bd'"), (13, b"COMMENT '\x81\x5f'", None),
        (10, b"DROP TABLE t", None), (45, b"\xff", None), (99, b"DROP TABLE t", None),
    ],
)  # fmt: skip
def test_texts_are_what_the_server_read(client: int, text: bytes, statement: str | None) -> None:
    found = query(body(text, client=client), CHARSETS)
    assert found.exact is (statement is not None)
    assert statement is None or found.statement == statement


@pytest.mark.parametrize(
    ("version", "logged"),
    [
        ("10.11.6-MariaDB-log", True), ("10.11.6-4-MariaDB-enterprise", True), ("5.5.5-10.10.1-MariaDB", True),
        ("10.6.20-16-MariaDB-enterprise-log", False), ("10.9.8-MariaDB", False), ("9.7.0", False),
    ],
)  # fmt: skip
def test_which_servers_log_explicit_defaults(version: str, *, logged: bool) -> None:
    text = b"\4\0" + version.encode().ljust(50, b"\0") + bytes(40)
    assert logs_explicit_timestamps(Event(FORMAT_DESCRIPTION, 0, 1, 4, 0, 0, text, 0)) is logged
