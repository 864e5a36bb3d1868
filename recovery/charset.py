"""Bytes in a MySQL character set, as text. One place for capture (row images) and snapshots (dumps).

MySQL's latin1 is Windows cp1252 with the five bytes that cp1252 leaves undefined (81, 8D, 8F, 90, 9D) mapped to the C1
controls of the same number, so every byte has a character and the mapping can be reversed (strings/ctype-latin1.cc).
"""

from __future__ import annotations

from typing import Final

_UNDEFINED: Final = {0x81, 0x8D, 0x8F, 0x90, 0x9D}
_LATIN1: Final = "".join(chr(b) if b in _UNDEFINED else bytes([b]).decode("cp1252") for b in range(256))
_LATIN1_TABLE: Final = str.maketrans({chr(b): c for b, c in enumerate(_LATIN1) if ord(c) != b})


def decode_text(raw: bytes, charset: str) -> str:
    """The text of bytes in one of utf8mb4, utf8mb3 (utf8), ascii, latin1. Raises ValueError if they aren't valid in it,
    or if the character set isn't one of these."""
    if charset in ("utf8mb4", "utf8mb3", "utf8"):
        return raw.decode("utf-8")
    if charset == "ascii":
        return raw.decode("ascii")
    if charset == "latin1":
        return raw.decode("latin-1").translate(_LATIN1_TABLE)
    raise ValueError(f"character set {charset!r} is not supported")


def encode_latin1(text: str) -> bytes:
    """The inverse of `decode_text(..., "latin1")`. Raises ValueError for a character that latin1 doesn't have."""
    return bytes(map(_LATIN1.index, text))
