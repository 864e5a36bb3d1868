"""Results as plain JSON data: what `--format json` prints and what a flow returns; and the log's times as times."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any


def to_plain(value: object) -> Any:
    """JSON form of a result: dataclasses by field name, times as ISO 8601 in UTC, bytes as hex, decimals as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path | Decimal | date | time | timedelta):
        return str(value)
    return value


def iso(moment: datetime) -> str:
    """2026-05-02T10:00:00.123456Z: the same width always, sorts as text, and `--to` takes it back."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(us: int) -> datetime:
    """Microseconds since the epoch as an aware time; exact, unlike fromtimestamp of a float."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
