"""What a snapshot was asked for, and so what it says of tables that it doesn't hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class SnapshotScope:
    """What was asked for: patterns `db.table`, databases, and patterns to leave out; all empty: everything captured."""

    tables: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def covers(self, db: str, table: str) -> bool:
        """Whether a snapshot of this scope that doesn't hold the table says that it wasn't there."""
        name = f"{db}.{table}"
        asked = (not self.databases or db in self.databases) and (not self.tables or _fits(name, self.tables))
        return asked and not _fits(name, self.exclude)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
