"""A transaction that a server left unfinished in its binlog when it died.

MySQL cuts it off when it starts again. MariaDB leaves it at the end of the file, where its last event may be cut in two, and
begins a new file. That names the GTIDs that the server knows to stand before it, and what was unfinished is not among them.

Promises: capture passes over it only where this list names exactly what was captured, so that what is skipped took no effect
in tables with transactions. Else it stops there with a gap, as at any other damage. Pure.
"""

from __future__ import annotations

from typing import Final

from recovery.errors import BinlogDamaged, RowbackError

# What MariaDB's dump says of an event without its end (LOG_READ_TRUNC, sql/sql_repl.cc).
CUT_SHORT: Final = b"binlog truncated in the middle of event"


class Torn(Exception):
    """`file` ends inside a transaction. error: what to stop with unless it is proved that this is all."""

    def __init__(self, file: str, error: RowbackError) -> None:
        super().__init__(error.message)
        self.file, self.error = file, error

    def disproved(self, file: str, listed: str, captured: str) -> BinlogDamaged:
        """The error where `file`, which follows, lists other GTIDs than were captured."""
        return BinlogDamaged(
            f"{self.error.message}; `{file}` says that `{listed}` stand before it, and captured is `{captured}`",
            hint=self.error.hint,
        )
