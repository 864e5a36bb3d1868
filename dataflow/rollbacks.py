"""Row events that count for nothing: what ROLLBACK and ROLLBACK TO SAVEPOINT took back and the server logged all the same.

A server cuts such events out of what it logs, unless the transaction did what can't be taken back (MariaDB: it made or
dropped a temporary table, or changed a table without transactions). Row events of tables without transactions are never
among them: in row format these go into the binlog before the transaction does (use_trans_cache in both servers'
sql/log.cc and sql/binlog.cc), under a GTID of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Span:
    """Events of a file that start behind `start` and before `end`."""

    file: str
    start: int
    end: int


class ReadAgain(Exception):
    """A part of the open transaction has been handed on whose rows turn out to be rolled back: it must be read from its
    beginning by who knows `spans`."""

    def __init__(self, spans: Sequence[Span]) -> None:
        super().__init__("; ".join(f"{s.file}:{s.start}-{s.end}" for s in spans))
        self.spans = tuple(spans)


@dataclass
class Rollbacks:
    """The spans of what is being read, and the savepoints of its last transaction that has any: (name, position)."""

    spans: list[Span] = field(default_factory=list)
    savepoints: list[tuple[str, int]] = field(default_factory=list)

    def savepoint(self, transaction: int, name: str, position: int) -> None:
        """SAVEPOINT in the transaction that starts at `transaction`; its savepoint of the same name is gone."""
        name = _unquoted(name)
        self.savepoints = [s for s in self.savepoints if s[1] > transaction and not _same(s[0], name)]
        self.savepoints.append((name, position))

    def back_to(self, transaction: int, name: str) -> int | None:
        """ROLLBACK TO: where the savepoint is, behind which all others are gone. None if that isn't known for certain:
        servers compare names without case and accents."""
        savepoints = [s for s in self.savepoints if s[1] > transaction]
        names = [s[0] for s in savepoints]
        name = _unquoted(name)
        at = next((i for i, n in enumerate(names) if _same(n, name)), None)
        if at is None or not all(n.isascii() for n in names):
            return None
        self.savepoints = savepoints[: at + 1]
        return savepoints[at][1]

    def add(self, span: Span) -> bool:
        """Whether it is news."""
        if span in self.spans:
            return False
        self.spans.append(span)
        return True

    def forget(self, file: str, before: int) -> None:
        """The spans of a file that end before a position: whoever was to be told has been."""
        self.spans = [s for s in self.spans if s.file != file or s.end > before]

    def kept(self, file: str, positions: np.ndarray) -> np.ndarray | None:
        """Which of the row events at these positions of a file count; None if all do."""
        spans = [s for s in self.spans if s.file == file]
        if not spans:
            return None
        kept = np.ones(len(positions), bool)
        for span in spans:
            kept &= (positions <= span.start) | (positions >= span.end)
        return kept


def _unquoted(name: str) -> str:
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in '`"':
        name = name[1:-1].replace(name[0] * 2, name[0])
    return name


def _same(a: str, b: str) -> bool:
    """Of ASCII names alone. To the server `ß` is `s`; casefold() would make it the ASCII name `ss`."""
    return a.isascii() and b.isascii() and a.lower() == b.lower()
