"""A transaction that a server left unfinished in its binlog when it died.

MySQL cuts it off when it starts again. MariaDB leaves it at the end of the file, where its last event may be cut in two, and
begins a new file. That names the GTIDs that the server knows to stand before it, and what was unfinished is not among them.

Promises: capture passes over it only where this list names exactly what stands in the torn file up to there, so that what is
skipped took no effect in tables with transactions. Else it stops there with a gap, as at any other damage. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from recovery.errors import BinlogDamaged, RowbackError

# What MariaDB's dump says of an event without its end (LOG_READ_TRUNC, sql/sql_repl.cc).
CUT_SHORT: Final = b"binlog truncated in the middle of event"


class Torn(Exception):
    """`file` ends inside a transaction. error: what to stop with unless it is proved that this is all."""

    def __init__(self, file: str, error: RowbackError) -> None:
        super().__init__(error.message)
        self.file, self.error = file, error


@dataclass(frozen=True)
class Behind:
    """What proves that the next file follows on the torn one. state: of each domain and server that has written to the
    binlog, the newest GTID up to the torn place. A position (the highest of each domain) doesn't do: numbers go back where
    gtid_strict_mode is off, and behind a crash the list isn't in the order of time."""

    error: RowbackError
    state: frozenset[str]

    def check(self, file: str, listed: Iterable[str]) -> None:
        """listed: by `file`, which follows. Raises BinlogDamaged unless that is the state."""
        have, wanted = ",".join(sorted(listed)), ",".join(sorted(self.state))
        if have != wanted:
            raise BinlogDamaged(
                f"{self.error.message}; `{file}` says that `{have}` stand before it, and up to there it was `{wanted}`",
                hint=self.error.hint,
            )
