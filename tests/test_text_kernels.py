"""The kernels that gather and check text, against Python's own codec."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dataflow.kernels import jsonb, strings

LETTERS = (
    "a",
    "Z",
    " ",
    '"',
    "\\",
    "\n",
    "\x1f",
    "\x7f",
    "\x80",
    "ß",
    "߿",
    "ࠀ",
    "퟿",
    "",
    "￿",
    "\U00010000",
    "\U0010ffff",
)


def columns(values: list[bytes | None], tail: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values with foreign bytes between them, and `tail` bytes behind the last."""
    data, offsets = bytearray(b"\xff"), []
    for value in values:
        offsets.append(len(data))
        data += value or b""
        data += b"\xee"
    data[-1:] = b"\xdd" * tail
    lengths = np.array([-1 if value is None else len(value) for value in values], np.int32)
    return np.frombuffer(bytes(data), np.uint8), np.array(offsets, np.int64), lengths


def some_bytes(rng: random.Random) -> bytes:
    raw = bytearray("".join(rng.choice(LETTERS) for _ in range(rng.randrange(12))).encode())
    if raw and rng.random() < 0.2:
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    if raw and rng.random() < 0.1:
        del raw[rng.randrange(len(raw)) :]
    return bytes(raw)


def is_text(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("seed", range(4))
def test_gathered_and_checked(seed: int) -> None:
    rng = random.Random(seed)
    ends_seen = {True: 0, False: 0}
    for _ in range(2_000):
        values = [None if rng.random() < 0.1 else some_bytes(rng) for _ in range(rng.randrange(1, 6))]
        data, offsets, lengths = columns(values, rng.choice((0, 3, 40)))
        ends, out = np.empty(len(values) + 1, np.int32), np.empty(strings.total(lengths), np.uint8)
        strings.gather(data, offsets, lengths, ends, out)
        assert out.tobytes() == b"".join(value or b"" for value in values)
        assert ends.tolist() == [0, *np.cumsum(np.maximum(lengths, 0)).tolist()]
        expected = all(is_text(value) for value in values if value)
        assert strings.is_utf8(out, ends) == expected, values
        ends_seen[expected] += 1
    assert min(ends_seen.values()) > 100


def test_each_pair_of_bytes_in_a_word() -> None:
    """Text is looked at eight bytes at a time: each byte at each place of a word, beside plain ones and beside itself."""
    for byte in range(256):
        for at in range(8):
            for other in (b"a", bytes([byte])):
                raw = bytes([byte]).join((other * at, b"b" * (7 - at)))
                data = np.frombuffer(raw, np.uint8)
                assert strings.is_utf8(data, np.array([0, 8], np.int32)) == is_text(raw), raw
                document = np.frombuffer(b"\x0c\x08" + raw + b"\xff" * 9, np.uint8)
                if not is_text(raw):
                    with pytest.raises(jsonb.DamagedDocument):
                        jsonb.render(document, np.zeros(1, np.int64), np.array([10]))
                    continue
                (text,) = jsonb.render(document, np.zeros(1, np.int64), np.array([10])).to_pylist()
                assert text == quoted(raw)


def quoted(raw: bytes) -> str:
    """As MySQL's double_quote prints it."""
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    return '"' + "".join(short.get(ord(c)) or (f"\\u{ord(c):04x}" if c < " " else c) for c in raw.decode()) + '"'
