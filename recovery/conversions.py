"""Which columns can simply become which others: every value of the old type is a value of the new one, and the same.

Integers and DECIMALs that grow, CHAR and VARCHAR that grow or become TEXT, VARBINARY and BLOB likewise, more fractional
digits, more ENUM and SET labels, text to another character set of the Unicode family, FLOAT to DOUBLE, NOT NULL taken away;
with a Check NOT NULL added, and text to a smaller Unicode set.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, TypeAlias

from recovery.fixed_digits import FixedDigits
from recovery.schema import INTEGER_BITS, Column

_TEXTS: Final = ("char", "varchar", "text")
_BYTES: Final = ("varbinary", "blob")
# Character sets with characters above U+FFFF, which the 3-byte Unicode sets don't have (SHOW CHARACTER SET).
_BEYOND_BMP: Final = frozenset({"utf8mb4", "utf16", "utf16le", "utf32", "gb18030", "binary"})
FRACTIONAL: Final = frozenset({"time", "datetime", "timestamp"})
UNICODE: Final = frozenset({"utf8mb4", "utf8mb3", "utf8", "utf16", "utf16le", "utf32", "ucs2"})

Check: TypeAlias = Literal["not null", "valid text", "three bytes", "no zero"] | FixedDigits
"""What only the rows tell: none is NULL; none is text that isn't valid in its character set (its bytes would mean something
else in the next one); none has a character above U+FFFF; none is 0, which AUTO_INCREMENT numbers; FLOAT(M,D) or DOUBLE(M,D)
rounds none."""


def defined(spec: Column, charset: str | None) -> Column:
    """A statement's definition in the terms of the binlog's: lengths in bytes; `charset` where it names none."""
    held = spec.charset or (charset if spec.type in (*_TEXTS, "enum", "set") else None)
    octets = spec.octets
    if octets is not None and spec.type in ("char", "varchar"):
        octets *= widest(held)
    return replace(spec, charset=held, octets=octets)


def checks_of(old: Column, new: Column) -> tuple[Check, ...]:
    found: list[Check] = []
    if old.nullable and not new.nullable:
        found.append("not null")
    before, after = (c.replace("utf8mb3", "utf8") if c else None for c in (old.charset, new.charset))
    if before != after and old.type in _TEXTS:
        found.append("valid text")
        if after in ("utf8", "ucs2") and before in _BEYOND_BMP:
            found.append("three bytes")
    return tuple(found)


def widest(charset: str | None) -> int:
    """Bytes of a character at most (SHOW CHARACTER SET, Maxlen)."""
    wide = {
        "utf8mb4": 4,
        "utf16": 4,
        "utf16le": 4,
        "utf32": 4,
        "gb18030": 4,
        "utf8mb3": 3,
        "utf8": 3,
        "ujis": 3,
        "eucjpms": 3,
    }
    double = {"ucs2", "big5", "gbk", "gb2312", "sjis", "cp932", "euckr"}
    return wide.get(charset or "", 2 if charset in double else 1)


def loss(old: Column, new: Column) -> str | None:
    """Why values of `old` can't simply be values of `new`; None if they can."""
    if new.generated:
        return None
    if old.generated:
        return "was generated"
    if old.type in INTEGER_BITS and new.type in INTEGER_BITS:
        if old.unsigned and not new.unsigned:
            return None if INTEGER_BITS[new.type] > INTEGER_BITS[old.type] else "became signed"
        if new.unsigned and not old.unsigned:
            return "became unsigned"
        return None if INTEGER_BITS[new.type] >= INTEGER_BITS[old.type] else "became narrower"
    if old.type in _TEXTS and new.type in _TEXTS:
        return _text_loss(old, new)
    if old.type in _BYTES and new.type in _BYTES:
        shrunk = new.type == "varbinary" and (old.type == "blob" or (new.octets or 0) < (old.octets or 0))
        return "became shorter" if shrunk else None
    if (old.type, new.type) == ("float", "double"):
        return None
    if old.type != new.type:
        return f"was of type {old.type} and became {new.type}"
    if old.type == "decimal":
        whole, more = _digits(new)[0] >= _digits(old)[0], _digits(new)[1] >= _digits(old)[1]
        return None if whole and more and old.unsigned <= new.unsigned == old.unsigned else "lost digits"
    if old.type in FRACTIONAL:
        return None if (new.fsp or 0) >= (old.fsp or 0) else "lost fractional digits"
    if old.type in ("enum", "set"):
        if not (set(old.labels) <= set(new.labels) and _charset_fits(old.charset, new.charset)):
            return "lost labels"
        return "has a label without characters" if "" in old.labels and reordered(old, new) else None
    if old.type in ("binary", "bit") and (old.octets, old.precision) != (new.octets, new.precision):
        return "got another length"
    return None


def reordered(old: Column, new: Column) -> bool:
    """Whether labels of a SET stand in another order: the text of a value has them in that of the definition."""
    return old.type == "set" and new.labels[: len(old.labels)] != old.labels


def redefined(old: Column, new: Column) -> Column:
    """A column with what a later definition says of how its values are written; its character set, which that needn't name,
    is still the old one."""
    if old.type == "decimal":
        return replace(old, precision=new.precision, scale=new.scale)
    if old.type in FRACTIONAL:
        return replace(old, fsp=new.fsp)
    return replace(old, labels=new.labels) if old.type in ("enum", "set") else old


def _digits(column: Column) -> tuple[int, int]:
    scale = column.scale or 0
    return (column.precision or 0) - scale, scale


def _text_loss(old: Column, new: Column) -> str | None:
    if not _charset_fits(old.charset, new.charset):
        return f"was converted from {old.charset} to {new.charset}"
    if old.type == "text" and new.type != "text":
        return "became shorter"
    if new.type == "char" and old.type == "varchar":
        return "became CHAR, which drops trailing spaces"
    if new.type == "text" or old == new:
        return None
    if old.octets is None or new.octets is None:
        return "may have become shorter"
    shorter = new.octets // widest(new.charset) < old.octets // widest(old.charset)
    return "became shorter" if shorter else None


def _charset_fits(old: str | None, new: str | None) -> bool:
    same = (old or "").replace("utf8mb3", "utf8") == (new or "").replace("utf8mb3", "utf8")
    if new in ("utf8mb3", "utf8", "ucs2"):
        return same or (old is not None and old != "binary")
    return same or new in ("utf8mb4", "utf16", "utf16le", "utf32") or old == "ascii"
