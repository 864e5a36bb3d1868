"""What defaults gave the rows that were there when a column was added, where that is a moment: with CURRENT_TIMESTAMP the
statement's own, the same for all of them, which the binlog has, and for DATETIME the time zone that it was read in; a
TIMESTAMP's literal in that time zone.

Sources: MySQL manual, "Automatic Initialization and Updating for TIMESTAMP and DATETIME"; MariaDB's "DATETIME". Both cut
fractional digits off, they don't round.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from recovery.archive.actions import Ddl, Session
from recovery.column_spec import ColumnSpec, Default

_LITERAL = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.(\d{1,6}))?)?")
_OFFSET = re.compile(r"([-+])(\d\d):([0-5]\d)")


def settled(spec: ColumnSpec, ddl: Ddl) -> ColumnSpec:
    """The definition with the moment's value as its default, in the text that DuckDB casts to it, if the default is the
    current time or a TIMESTAMP's; as it is for any other one and where the value can't be told."""
    default, column = spec.default, spec.column
    if default is None or ddl.session is None:
        return spec
    if column.type == "timestamp" and default.known and default.text is not None:
        text = _in_zone(default.text, column.fsp or 0, ddl.session)
        return spec if text is None else replace(spec, default=Default(text, moment=True))
    if default.clock is None or default.clock != (column.fsp or 0):
        return spec
    us = ddl.session.started_at_us
    if default.clock and us % 1_000_000 == 0:
        return spec  # the event may not have the fraction
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    if column.type == "timestamp":
        text = f"{_written(moment, default.clock)}+00"
    elif column.type == "datetime" and (offset := _offset(ddl.session)) is not None:
        text = _written(moment + offset, default.clock)
    else:
        return spec
    return replace(spec, default=Default(text, moment=True))


def reads_the_clock(spec: ColumnSpec) -> bool:
    """Whether the rows that are there get the current time."""
    return spec.default is not None and spec.default.clock is not None


def _in_zone(literal: str, fsp: int, session: Session) -> str | None:
    found, offset = _LITERAL.fullmatch(literal), _offset(session)
    if found is None or offset is None or len((found[1] or "").rstrip("0")) > fsp:
        return None
    try:
        moment = datetime.fromisoformat(literal.partition(".")[0]).replace(tzinfo=UTC) - offset
    except (ValueError, OverflowError):
        return None
    us = int((found[1] or "").ljust(6, "0"))
    return f"{_written(moment.replace(microsecond=us), fsp)}+00" if moment.timestamp() > 0 else None


def _written(moment: datetime, digits: int) -> str:
    fraction = f".{moment.microsecond:06}"[: digits + 1] if digits else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}"


def _offset(session: Session) -> timedelta | None:
    """Of local time from UTC. A named zone's is not known: it is as the server's own tables have it."""
    found = _OFFSET.fullmatch(session.zone or "")
    if found is None:
        return None
    size = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return -size if found[1] == "-" else size
