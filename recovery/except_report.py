"""What a restore with transactions left out says: which they are, which later changes touched the same rows,
what conflicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from recovery.errors import NotComputable
from recovery.target import format_us

REFUSE: Final = "refuse"
KEEP_LATER: Final = "keep-later"
DROP_LATER: Final = "drop-later"
POLICIES = (REFUSE, KEEP_LATER, DROP_LATER)
SHOWN = 5  # conflicts in an error's text
LISTED = 50  # later changes in a text for people


@dataclass(frozen=True)
class Excluded:
    """A transaction left out. tables: of the plan, with how many of their rows it changed; elsewhere: row changes of it in
    tables that the restore leaves out."""

    seq: int
    gtid: str | None
    file: str
    position: int
    committed_at_us: int
    tables: tuple[tuple[str, int], ...]
    elsewhere: int

    @property
    def name(self) -> str:
        return self.gtid or f"{self.file}:{self.position}"


@dataclass(frozen=True)
class Later:
    """A change behind a transaction left out, of a row that it had touched. key: as SELECT prints it. columns: what an
    update changed; again: of those, what differs without the transaction, so the value logged may have been made of its.
    conflict: why it can't be so without it; None where it can, or where a later delete settled it."""

    seq: int
    gtid: str | None
    file: str
    position: int
    committed_at_us: int
    table: str
    op: str
    key: tuple[str | None, ...]
    columns: tuple[str, ...]
    again: tuple[str, ...]
    conflict: str | None

    def text(self) -> str:
        what = f" of {', '.join(self.columns)}" if self.columns else ""
        anew = f" ({', '.join(self.again)}: changed by both)" if self.again else ""
        key = ", ".join("NULL" if part is None else part for part in self.key)
        who = self.gtid or f"{self.file}:{self.position}"
        end = f": CONFLICT, {self.conflict}" if self.conflict else ""
        return f"{who} {format_us(self.committed_at_us)} {self.table} ({key}): {self.op}{what}{anew}{end}"


@dataclass(frozen=True)
class Exclusion:
    """What `--except` does to a plan. conflicts: the policy."""

    transactions: tuple[Excluded, ...]
    later: tuple[Later, ...]
    conflicts: str

    @property
    def open(self) -> tuple[Later, ...]:
        return tuple(entry for entry in self.later if entry.conflict)

    @property
    def refused(self) -> bool:
        return bool(self.open) and self.conflicts == REFUSE

    def explain(self) -> Iterator[str]:
        for t in self.transactions:
            rows = ", ".join(f"{count} row changes of {table}" for table, count in t.tables) or "no row of these tables"
            yield f"without transaction {t.name} at {t.file}:{t.position} ({format_us(t.committed_at_us)}): {rows}"
        if self.later:
            yield f"{len(self.later)} later changes of the same rows:"
        yield from (f"  {entry.text()}" for entry in self.later[:LISTED])
        if len(self.later) > LISTED:
            yield f"  and {len(self.later) - LISTED} more (`--format json` has all)"
        if self.refused:
            yield f"{len(self.open)} of them conflict: the restore is refused without --except-conflicts"
        elif self.open:
            done = "stand as they were logged" if self.conflicts == KEEP_LATER else "are left out, too"
            yield f"{len(self.open)} of them conflict and {done} (--except-conflicts {self.conflicts})"

    def warnings(self) -> Iterator[str]:
        for t in self.transactions:
            if t.elsewhere:
                yield (
                    f"transaction {t.name} also made {t.elsewhere} row changes in tables that this restore leaves out: "
                    "restored together they would fit each other"
                )

    def check(self) -> None:
        """Raises NotComputable for conflicts that no policy settles."""
        if not self.refused:
            return
        shown = "; ".join(entry.text() for entry in self.open[:SHOWN])
        more = f"; and {len(self.open) - SHOWN} more" if len(self.open) > SHOWN else ""
        names = ", ".join(f"`{t.name}`" for t in self.transactions)
        raise NotComputable(
            f"{len(self.open)} later changes can't be so without transaction {names}: {shown}{more}",
            hint="`--except-conflicts keep-later` takes such rows as the later transaction left them, `drop-later` leaves "
            "its changes to them out as well; `--dry-run` lists them all.",
        )
