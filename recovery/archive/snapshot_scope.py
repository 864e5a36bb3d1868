"""What a snapshot was asked for, and so what it says of tables that it doesn't hold."""

from __future__ import annotations

from dataclasses import dataclass

from recovery.config import wanted


@dataclass(frozen=True)
class SnapshotScope:
    """What was asked for: patterns `db.table`, databases, and patterns to leave out; all empty: everything captured."""

    tables: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def covers(self, db: str, table: str) -> bool:
        """Whether a snapshot of this scope that doesn't hold the table says that it wasn't there."""
        asked = not self.databases or db in self.databases
        return asked and wanted(self.tables, self.exclude, db, table)
