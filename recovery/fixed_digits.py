"""FLOAT(M,D) and DOUBLE(M,D): what the server makes of a value when it stores it, and whether values are already like that.

The binlog's metadata and the archive's definitions don't have (M,D), only statements do: values come in them as stored.
Source: MySQL's sql/field.cc, Field_real::truncate; MariaDB's sql/field.cc, truncate_double, is the same.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from recovery.schema import Column


@dataclass(frozen=True)
class FixedDigits:
    """type: float or double. digits: M, all of them; scale: D, those behind the point."""

    type: str
    digits: int
    scale: int

    def stored(self, value: float) -> float | None:
        """None for a value that doesn't fit."""
        whole = float(math.floor(value))
        result = whole + round((value - whole) * self._factor) / self._factor
        return as_stored(self.type, result) if abs(result) <= self._largest else None

    def changes(self, value: str) -> str:
        """A DuckDB condition: true for each value that isn't the same when it is stored, and for ties."""
        number = f"({value})::DOUBLE"
        shifted = f"(({number} - floor({number})) * {self._factor!r}::DOUBLE)"
        rest = f"{shifted} - floor({shifted})"
        rounded = f"CASE WHEN {rest} < 0.5 THEN floor({shifted}) ELSE ceil({shifted}) END"
        result = f"(floor({number}) + ({rounded}) / {self._factor!r}::DOUBLE)"
        same = f"{result}::FLOAT = ({value})::FLOAT" if self.type == "float" else f"{result} = {number}"
        exact = f"{number}::{self.type.upper()}::DOUBLE = {number}"
        negative_zero = f"({number} = 0 AND signbit({number}))"
        fits = f"abs({result}) <= {self._largest!r}::DOUBLE"
        good = f"{same} AND {exact} AND {fits} AND {rest} <> 0.5 AND NOT {negative_zero}"
        return f"({value} IS NOT NULL AND NOT ({good}))"

    @property
    def _factor(self) -> float:
        return float(f"1e{self.scale}")

    @property
    def _largest(self) -> float:
        return float(f"1e{self.digits - self.scale}") - 1.0 / self._factor


def fixed_digits(spec: Column) -> FixedDigits | None:
    """Of a statement's definition; None if it has none."""
    if spec.type not in ("float", "double") or spec.precision is None or spec.scale is None:
        return None
    return FixedDigits(spec.type, spec.precision, spec.scale)


def as_stored(kind: str, value: float) -> float | None:
    """The value in a FLOAT or DOUBLE, as the double that it is; None if that can't hold it."""
    if kind == "float":
        try:
            (value,) = struct.unpack("<f", struct.pack("<f", value))
        except OverflowError:
            return None
    return value if math.isfinite(value) else None
