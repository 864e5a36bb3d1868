"""recovery/charset.py: every character set as the real servers see it, code by code and value by value."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import charset_tables
from recovery.charset import (
    DOUBLE_BYTE,
    MALFORMED,
    SINGLE_BYTE,
    TABLES_FILE,
    decode_statement,
    decode_text,
    encode_text,
    exact_bytes,
    exact_text,
    gb18030_code,
    gb18030_place,
    label_bytes,
    label_text,
    storable,
    tables,
    transcode,
)
from recovery.schema import CHARSETS
from testservers import Server

LEGACY = sorted(SINGLE_BYTE | DOUBLE_BYTE)
UNICODE = ["ucs2", "utf16", "utf16le", "utf32", "utf8mb3", "utf8mb4"]
EVERY = [*LEGACY, *UNICODE]
# All codes of all sets take some minutes: `make soak`. The suite takes a sample of the large sets, another for each.
WHOLE = bool(os.environ.get("ROWBACK_CAMPAIGN"))
SAMPLE = 2_500


def text_of(raw: bytes, charset: str) -> str | None:
    try:
        return decode_text(raw, charset)
    except ValueError:
        return None


def transcoded(values: list[bytes | None], charset: str) -> tuple[list[str | None], list[int]]:
    """`transcode` of values that stand in one buffer with a byte of 0xFF between them."""
    starts, buffer = [], bytearray(b"\xff")
    for value in values:
        starts.append(len(buffer))
        buffer += (value or b"") + b"\xff"
    lengths = [-1 if value is None else len(value) for value in values]
    array, bad = transcode(np.frombuffer(bytes(buffer), np.uint8), np.array(starts), np.array(lengths), charset)
    array.validate(full=True)
    return array.to_pylist(), bad.tolist()


def test_all_sets_are_known(mysql_source: Server, mariadb_source: Server) -> None:
    for server in (mysql_source, mariadb_source):
        names = {str(row[0]) for row in server.execute("SHOW CHARACTER SET")}
        assert names <= CHARSETS
    assert {*EVERY, "binary", "utf8"} == CHARSETS


@pytest.mark.parametrize("charset", LEGACY if WHOLE else [*sorted(SINGLE_BYTE), "sjis"])
def test_the_tables_are_what_the_servers_say(charset: str, mysql_source: Server, mariadb_source: Server) -> None:
    """All codes of all sets that have a table."""
    asked = charset_tables.tables([mysql_source, mariadb_source], charset)
    with np.load(TABLES_FILE) as file:
        assert {name for name in file if name.rpartition("_")[0] == charset} == set(asked)
        for name, table in asked.items():
            assert (file[name] == table).all()


def codes(charset: str, random_: random.Random) -> list[bytes]:
    """Codes to make values of: all that the set has, and some that it hasn't."""
    if charset in ("ucs2", "utf16", "utf16le"):
        order = "little" if charset == "utf16le" else "big"
        found = [i.to_bytes(2, order) for i in range(0x10000)]
        pairs = [(random_.randrange(0xD7F0, 0xE010), random_.randrange(0xDBF0, 0xE010)) for _ in range(20_000)]
        return found + [a.to_bytes(2, order) + b.to_bytes(2, order) for a, b in pairs] + [b"\0", b"\0a\0"]
    if charset == "utf32":
        return [i.to_bytes(4, "big") for i in [*range(0x10000), *range(0x10000, 0x112000, 31), 2**32 - 1]] + [b"\0\0a"]
    if charset.startswith("utf8"):
        found = [bytes([i]) for i in range(256)] + [bytes([a, b]) for a in range(0xC0, 0xE0) for b in range(0x70, 0xD0)]
        tails = (0x00, 0x7F, 0x80, 0xBF, 0xC0)
        found += [bytes([a, b, c]) for a in range(0xE0, 0x100) for b in range(0x70, 0xD0) for c in tails]
        return found + [
            bytes([a, b, c, d]) for a in range(0xF0, 0x100) for b in range(0x70, 0xD0) for c in tails for d in tails
        ]
    known = tables(charset)
    found = [bytes([i]) for i in range(256)]
    for table, code in (
        (known.two, lambda i: i.to_bytes(2, "big")),
        (known.three, lambda i: b"\x8f" + i.to_bytes(2, "big")),
        (known.four, gb18030_code),
    ):
        some = np.flatnonzero(table != MALFORMED).tolist()
        found += [code(i) for i in some]
        found += [code(random_.randrange(len(table))) for _ in range(2000 if len(table) else 0)]
    if charset == "gb18030":
        found += [gb18030_code(random_.randrange(126 * 10 * 126 * 10)) for _ in range(20_000)]
        found += [gb18030_code(place) for place in (50_399, 50_400, 188_999, 189_000, 1_237_575, 1_237_576)]
    return found


def in_server(server: Server, charset: str, values: list[bytes]) -> Iterator[tuple[bytes, bytes, bytes, bytes | None]]:
    """(value, what a column of the set stores of it, that in utf8mb4, and that in the set again)."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("CREATE DATABASE IF NOT EXISTS charsets")
        cursor.execute("DROP TABLE IF EXISTS charsets.t")
        cursor.execute(f"CREATE TABLE charsets.t (n INT, c VARCHAR(50) CHARACTER SET {charset}) ENGINE = MyISAM")
        for start in range(0, len(values), 20_000):
            rows = ",".join(f"({start + n},X'{v.hex()}')" for n, v in enumerate(values[start : start + 20_000]))
            cursor.execute(f"INSERT INTO charsets.t VALUES {rows}")
        text = "CONVERT(c USING utf8mb4)"
        cursor.execute(
            f"SELECT n, CAST(c AS BINARY), CAST({text} AS BINARY), CAST(CONVERT({text} USING {charset}) AS BINARY)"
            " FROM charsets.t ORDER BY n"
        )
        for n, stored, converted, back in cursor.fetchall():
            yield values[n], stored, converted, back


@pytest.mark.parametrize("charset", EVERY)
def test_values_are_what_the_servers_say(charset: str, mysql_source: Server, mariadb_source: Server) -> None:
    """Each code by itself, and values of several: a text is the servers' text, and what has none can't be one."""
    random_ = random.Random(charset)
    alone = codes(charset, random_)
    if not WHOLE and len(alone) > SAMPLE:
        alone = random_.sample(alone, SAMPLE)
    several = 5000 if WHOLE else SAMPLE // 5
    mixed = [b"".join(random_.choices(alone, k=random_.randrange(2, 6))) for _ in range(several)]
    good = [code for code in alone if text_of(code, charset) is not None]
    values = [b"", *alone, *mixed, *(b"".join(random_.choices(good, k=4)) for _ in range(several))]
    texts, _ = transcoded(list(values), charset)
    refused: dict[bytes, int] = {}
    kept = {"mysql": 0, "mariadb": 0}
    servers = [s for s in (mysql_source, mariadb_source) if charset != "gb18030" or s.flavor == "mysql"]
    for server in servers:
        for text, (value, stored, converted, back) in zip(texts, in_server(server, charset, values), strict=True):
            assert text == text_of(value, charset)
            if text is not None:
                assert (stored, converted, back) == (value, text.encode(), value), value.hex()
                assert encode_text(text, charset) == value
            elif stored != value or back != value or not valid_text(converted):
                refused[value] = refused.get(value, 0) + 1
            for flavor in (server.flavor, None):
                if storable(value, charset, flavor):
                    assert stored == value, value.hex()
            kept[server.flavor] += stored == value and not storable(value, charset, server.flavor)
    without = {value for value, text in zip(values, texts, strict=True) if text is None}
    assert without == set(refused), "a value without a text is one that a server can't give back from text"
    assert len(without) < len(values)
    assert not any(kept.values()), "a server keeps values that are said to be lost"


def valid_text(raw: bytes) -> bool:
    try:
        return bool(raw.decode())
    except UnicodeDecodeError:
        return False


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(EVERY), st.lists(st.none() | st.binary(max_size=40), max_size=8), st.randoms())
def test_many_at_once_are_as_one_by_one(charset: str, values: list[bytes | None], random_: random.Random) -> None:
    known = ("a", "é", "日本", "\0", "€", "Ж", "\U0001f600", "\\", "~")
    for text in random_.choices(known, k=4):
        try:
            values.append(encode_text(text, charset))
        except ValueError:
            continue
    texts, bad = transcoded(values, charset)
    expected = [None if value is None else text_of(value, charset) for value in values]
    assert texts == expected
    assert bad == [i for i, v in enumerate(values) if v is not None and expected[i] is None]


@given(st.sampled_from([*EVERY, "binary"]), st.binary(max_size=20))
def test_decoding_has_an_inverse(charset: str, raw: bytes) -> None:
    text = text_of(raw, charset)
    if text is not None:
        assert encode_text(text, charset) == raw
        assert charset == "binary" or storable(raw, charset)
    assert label_bytes(label_text(raw, charset), charset) == raw
    assert exact_bytes(exact_text(raw)) == raw


def test_labels_without_a_text() -> None:
    assert label_text(b"\xff", "utf8mb4") == label_text(b"\xff", "binary") == "x'ff'"
    assert label_text(b"x'ff'", "utf8mb4") == "x'7827666627'"
    assert label_text(b"x'fg'", "latin1") == "x'fg'"
    assert label_bytes("x'ff'", "utf8mb4") == b"\xff"
    assert label_bytes("0xFF", "utf8mb4") == b"0xFF"


@given(st.lists(st.binary(max_size=4) | st.sampled_from([b"x'ff'", b"x''", b"x'0", b"\xff"]), unique=True))
def test_labels_are_never_mixed_up(raws: list[bytes]) -> None:
    assert len({label_text(raw, "utf8mb4") for raw in raws}) == len(raws)


def test_known_texts() -> None:
    assert decode_text(b"\x80\x81\x9f", "latin1") == "€\x81Ÿ"
    assert decode_text(b"\x93\xfa\x96{", "sjis") == "日本"
    assert decode_text(b"[\\]{|}", "swe7") == "ÄÖÅäöå"
    assert decode_text(b"\xd8\x3d\xde\x00", "utf16") == "\U0001f600"
    assert decode_text(b"\x94\x39\xfc\x36", "gb18030") == "\U0001f600"
    assert encode_text("日本", "ujis") == b"\xc6\xfc\xcb\xdc"


@pytest.mark.parametrize(
    ("raw", "charset"),
    [
        (b"\xc3(", "utf8mb4"), (b"\xf0\x9f\x98\x80", "utf8mb3"), (b"\xed\xa0\x80", "utf8mb4"), (b"\x80", "ascii"),
        (b"\xd8\x3d\xde\x00", "ucs2"), (b"\xd8\x00", "utf16"), (b"a", "utf16le"), (b"\0\x11\0\0", "utf32"),
        (b"\x81", "gbk"), (b"\x81\x20", "sjis"), (b"\\", "sjis"), (b"\x8f\xa1", "ujis"), (b"\x81\x30\x81", "gb18030"),
        (b"\x80", "swe7"), (b"a", "klingon"),
    ],
)  # fmt: skip
def test_bytes_without_a_text(raw: bytes, charset: str) -> None:
    with pytest.raises(ValueError):
        decode_text(raw, charset)


@pytest.mark.parametrize(
    ("raw", "charset", "text"),
    [
        (b"DEFAULT 'x\xfd'", "cp866", "DEFAULT 'x\u00b2'"), (b"DEFAULT 'x\x95'", "koi8u", "DEFAULT 'x\u2022'"),
        (b"DEFAULT 'x\xa1'", "greek", "DEFAULT 'x\u02bd'"), (b"DEFAULT 'x\xaf'", "hebrew", "DEFAULT 'x\u203e'"),
        (b"DEFAULT '\xa8\xbc'", "gb18030", "DEFAULT '\u1e3f'"), (b"'\x80\x81'", "latin1", "'\u20ac\x81'"),
        (b"'\\n\x83\x5c\\''", "sjis", "'\\n\u30bd\\''"), (b"'\x81\x5f'", "sjis", None),
        (b"'\x81\x5f'", "cp932", "'\uff3c'"), (b"'\xed\x40'", "cp932", None), (b"'\xe9\x5c'", "big5", "'\u5b1e'"),
        (b"'a'", "swe7", None), (b"'a'", "klingon", None), ("'ä'".encode(), "utf8mb4", "'ä'"),
    ],
)  # fmt: skip
def test_statements_of_clients(raw: bytes, charset: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(ValueError):
            decode_statement(raw, charset)
    else:
        assert decode_statement(raw, charset) == text


@pytest.mark.parametrize(
    ("text", "charset"),
    [("€", "ascii"), ("日", "latin1"), ("\U0001f600", "gbk"), ("\U0001f600", "ucs2"), ("\U0001f600", "utf8mb3")],
)
def test_characters_that_a_set_lacks(text: str, charset: str) -> None:
    with pytest.raises(ValueError):
        encode_text(text, charset)


def test_gb18030_counts() -> None:
    for place in (0, 1, 9, 10, 1259, 1260, 12_600, 50_399, 189_000, 1_587_599):
        assert gb18030_place(gb18030_code(place)) == place
    assert gb18030_code(0) == b"\x81\x30\x81\x30"
    assert gb18030_place(b"\x90\x30\x81\x30") == 189_000


@pytest.mark.parametrize(
    ("starts", "lengths"), [([0], [4]), ([3], [1]), ([-1], [1]), ([2**62], [2**62]), ([1], [2**63 - 1])]
)
def test_a_value_beyond_its_buffer_is_refused(starts: list[int], lengths: list[int]) -> None:
    buffer: Any = np.frombuffer(b"abc", np.uint8)
    with pytest.raises(ValueError, match="beyond"):
        transcode(buffer, np.array(starts), np.array(lengths), "latin1")


def test_unknown_sets_are_refused() -> None:
    none: Any = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="klingon"):
        transcode(np.zeros(0, np.uint8), none, none, "klingon")
    with pytest.raises(ValueError, match="klingon"):
        encode_text("a", "klingon")
