"""The statements that create an object again, each with the settings under which it has to run.

The text stays the server's own but for what would mean something else on an empty server: OR REPLACE goes, a trigger's
FOLLOWS too (triggers are created in their order), names that were changed since are the last ones, and who altered an event
is named as its definer. An event that was altered is made disabled and gets its status with its last statement, so that it
can't run half made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from recovery.archive.actions import Session
from recovery.charset import DOUBLE_BYTE, encode_text
from recovery.objects.fold import LiveObject, Step
from recovery.objects.statement import Span, edited, event_clauses
from recovery.sqlscan import NO_BACKSLASH_ESCAPES

_ESCAPES: Final = {"0": "\0", "n": "\n", "r": "\r"}
Changes = list[tuple[Span, str]]

# What a client may not speak, and sets whose characters may have a quote or a backslash as their second byte.
_NO_CLIENT: Final = frozenset({"", "ucs2", "utf16", "utf16le", "utf32", "binary"})


class NotLoadable(ValueError):
    """Why no file can create the object."""


@dataclass(frozen=True)
class LoadStatement:
    """db: to USE. sql_mode, collation: as SET takes them, by number or name. time_zone, at_us: of events, the clock that
    relative times and "in the past" go by; None for others."""

    db: str
    text: str
    sql_mode: str
    charset: str
    collation: str
    time_zone: str | None = None
    at_us: int | None = None

    @property
    def body(self) -> bytes:
        """The text in the client's character set. Raises NotLoadable."""
        return encoded(self.text, self.charset)


def encoded(text: str, charset: str) -> bytes:
    if "\0" in text:
        raise NotLoadable("its text has a NUL character, which no client sends whole")
    if charset in _NO_CLIENT or (charset in DOUBLE_BYTE and not text.isascii()):
        raise NotLoadable(
            f"its text is in the character set `{charset or 'unknown'}`, which clients can't read from a file"
        )
    try:
        return encode_text(text, charset)
    except ValueError as error:
        raise NotLoadable(f"its text can't be written in its character set `{charset}`") from error


def statements(live: LiveObject, read_at_us: int, *, events_disabled: bool = False) -> tuple[LoadStatement, ...]:
    """read_at_us: when the snapshot that it comes from was taken. Raises NotLoadable."""
    if not live.steps:
        raise NotLoadable(live.problem)
    texts = list(_event(live, events_disabled) if live.kind == "event" else _plain(live))
    found = tuple(_with_settings(live, step, text, read_at_us) for step, text in zip(live.steps, texts, strict=True))
    for one in found:
        _ = one.body
    return found


def _with_settings(live: LiveObject, step: Step, text: str, read_at_us: int) -> LoadStatement:
    event = live.kind == "event"
    session = step.session
    if session is not None:
        zone = (session.time_zone or "SYSTEM") if event else None
        at_us = session.started_at_us if event else None
        # A view's names may lie in the default database of its statement; everything else is in its own.
        db = step.db if live.kind == "view" else live.db
        return LoadStatement(
            db or live.db, text, str(session.sql_mode), session.charset, str(session.collation), zone, at_us
        )
    one = live.definition
    assert one is not None
    zone, at_us = (one.time_zone, read_at_us) if event else (None, None)
    return LoadStatement(live.db, text, f"'{one.sql_mode}'", one.charset, one.collation, zone, at_us)


# --- texts ------------------------------------------------------------------------------------------------------------


def _plain(live: LiveObject) -> Iterator[str]:
    for number, step in enumerate(live.steps):
        parsed = step.parsed
        changes: Changes = []
        if number == 0:
            changes += _as_create(step)
        if live.moved and live.kind == "view":
            changes.append((parsed.named, f"{_quoted(live.db)}.{_quoted(live.name)}"))
        if live.moved and parsed.on is not None:
            changes.append((parsed.on, _quoted(live.table)))
            if parsed.name[0] != live.db:
                changes.append((parsed.named, f"{_quoted(live.db)}.{_quoted(live.name)}"))
        if parsed.order_at is not None:
            changes.append((parsed.order_at, ""))
        yield edited(step.text, changes)


def _as_create(step: Step) -> Changes:
    """What makes a CREATE of the first statement; of views it may be an ALTER."""
    parsed = step.parsed
    changes: Changes = []
    if parsed.or_replace is not None:
        changes.append((parsed.or_replace, ""))
    verb = _verb(step.text)
    if parsed.verb != "CREATE":
        changes.append((verb, "CREATE"))
    if parsed.kind in ("procedure", "function") or (parsed.kind == "event" and step.session is None):
        changes += _comment(step)
    if parsed.definer is None and step.session is not None and step.session.invoker is not None:
        changes.append(((verb[1], verb[1]), f" DEFINER={_definer(step.session)}"))
    return changes


def _comment(step: Step) -> Changes:
    """A comment as the server prints it is escaped with backslashes under every sql_mode (append_unescaped in
    sql/unireg.cc), so under NO_BACKSLASH_ESCAPES its text would grow with each load. Binlogs have it so, too."""
    if not step.sql_mode_bits & NO_BACKSLASH_ESCAPES:
        return []
    words = step.parsed.words
    for word, following in pairwise(words):
        if word.says("BEGIN", "DO", "RETURN", "SELECT"):
            break
        if word.says("COMMENT") and following.kind == "string" and "\\" in following.text:
            text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), following.text, flags=re.DOTALL)
            return [((following.start, following.end), "'" + text.replace("'", "''") + "'")]
    return []


def _event(live: LiveObject, disabled: bool) -> Iterator[str]:
    clauses = [event_clauses(step.parsed, step.text) for step in live.steps]
    status = "DISABLE" if disabled else next((c.status for c in reversed(clauses) if c.status), "ENABLE")
    renames = [n for n, c in enumerate(clauses) if c.rename is not None]
    # Names that it had before may be another event's now: until its last renaming it has names of its own.
    name = f"rowback_{live.name[:40]}_0" if renames else ""
    last = len(live.steps) - 1
    for number, (step, clause) in enumerate(zip(live.steps, clauses, strict=True)):
        changes: Changes = []
        if number == 0:
            changes += _as_create(step)
        elif step.parsed.definer is None and step.session is not None and step.session.invoker is not None:
            end = _verb(step.text)[1]
            changes.append(((end, end), f" DEFINER={_definer(step.session)}"))
        if renames and number <= renames[-1]:
            changes.append((step.parsed.named, _quoted(name)))
        elif renames or live.moved:
            changes.append((step.parsed.named, _quoted(live.name)))
        if clause.rename_at is not None:
            name = live.name if number == renames[-1] else f"rowback_{live.name[:40]}_{number + 1}"
            changes.append((clause.rename_at, _quoted(name)))
        if disabled or last:
            wanted = status if number == last else "DISABLE" if number == 0 or clause.status else None
            if wanted is not None:
                changes.append((clause.place, wanted if clause.status else f" {wanted} "))
        yield edited(step.text, changes)


def _verb(text: str) -> Span:
    start = len(text) - len(text.lstrip())
    return start, start + next((i for i, c in enumerate(text[start:]) if not c.isalpha()), len(text) - start)


def _definer(session: Session) -> str:
    assert session.invoker is not None
    user, host = session.invoker
    return f"{_quoted(user)}@{_quoted(host)}" if host else _quoted(user)  # without a host it is a role


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
