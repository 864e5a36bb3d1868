"""A transaction that a server left unfinished in its binlog when it died.

MySQL cuts it off when it starts again. MariaDB leaves it at the end of the file, where its last event may be cut in two, and
begins a new file. That names the GTIDs that the server knows to stand before it, and what was unfinished is not among them.

Promises: capture passes over it only where what is skipped took no effect. That list must name exactly what stands in the
torn file up to there; the tail must be of tables with transactions alone, and its beginning must be there to say so; and the
server must sync its binlog before it commits (sync_binlog = 1), or a power cut may have taken from the binlog what tables
have. Else capture stops there with a gap, as at any other damage. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from recovery.errors import BinlogDamaged, RowbackError

# What MariaDB's dump says of an event without its end (LOG_READ_TRUNC, sql/sql_repl.cc).
CUT_SHORT: Final = b"binlog truncated in the middle of event"
# Flags of a GTID event (Gtid_log_event, sql/log_event.h).
_STANDALONE: Final = 1
_TRANSACTIONAL: Final = 4
_DDL: Final = 32


class Torn(Exception):
    """`file` ends inside a transaction. error: what to stop with unless it is proved that this is all."""

    def __init__(self, file: str, error: RowbackError) -> None:
        super().__init__(error.message)
        self.file, self.error = file, error

    def refused(self, why: str) -> BinlogDamaged:
        """What to stop with, and why capture didn't go on by itself."""
        return BinlogDamaged(
            f"{self.error.message}; {why}",
            hint=f"{self.error.hint} Go on behind it with `rowback capture --skip-gap` and take a new snapshot.",
        )

    def check_tail(self, flags: int) -> None:
        """flags: of the unfinished transaction's GTID event. Raises BinlogDamaged unless a crash rolls such a one back."""
        if not flags & _TRANSACTIONAL or flags & (_STANDALONE | _DDL):
            raise self.refused("what was cut off is DDL or of tables without transactions, and took effect")


@dataclass(frozen=True)
class Behind:
    """What proves that the next file follows on the torn one. state: of each domain and server that has written to the
    binlog, the newest GTID up to the torn place. A position (the highest of each domain) doesn't do: numbers go back where
    gtid_strict_mode is off, and behind a crash the list isn't in the order of time."""

    torn: Torn
    state: frozenset[str]

    def check(self, file: str, listed: Iterable[str]) -> None:
        """listed: by `file`, which follows. Raises BinlogDamaged unless that is the state."""
        have, wanted = ",".join(sorted(listed)), ",".join(sorted(self.state))
        if have != wanted:
            raise self.torn.refused(f"`{file}` says that `{have}` stand before it, and up to there it was `{wanted}`")
