"""How far a restore is: what its caller is told, at any rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RestoreProgress:
    """table: the one being worked on; empty for a note. rows, size_bytes: written of it so far. done: it is finished. note:
    something that a person should know (a snapshot that is passed over, a table that is written again)."""

    table: str = ""
    tables_done: int = 0
    tables_total: int = 0
    rows: int = 0
    size_bytes: int = 0
    done: bool = False
    note: str = ""


Report = Callable[[RestoreProgress], None]


def unreported(progress: RestoreProgress) -> None:
    """For callers that show nothing."""
