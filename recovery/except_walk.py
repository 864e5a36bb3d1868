"""Rows as they would be without some transactions: a walk over the later changes of the rows that those had touched.

A row starts as the first of them found it. A later update sets the columns that it changed, with the values that it
logged, and leaves the others as they would be. What can't be so is a conflict: an update of a row that isn't there, an
insert of one that is, a move to a key that is taken. The row then stands as the later transaction left it (keep-later), or
that change is left out as well (drop-later). A later delete of the row ends a conflict: it is gone either way.

Pure. Works in the definition of one stage at a time; `next_stage` carries the rows over a statement that altered the table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from recovery.archive.segments import DELETE, INSERT
from recovery.errors import NotComputable
from recovery.except_rows import Cell, Key, cells, loose_key
from recovery.images import UPDATE, Change
from recovery.schema import Table

ABSENT = "it changed a row that isn't there without it"
PRESENT = "it inserted a row that is still there without it"
TAKEN = "it moved a row to a key that is taken without it"


@dataclass(frozen=True)
class LaterChange:
    """A later change of a row that a transaction left out had touched. columns: what an update changed; again: of those,
    what would have had another value before it. why: set if it can't be so without the transaction."""

    change: Change
    key: Key
    again: tuple[str, ...] = ()
    why: str | None = None


@dataclass
class _Row:
    """A tracked key. would: the cells that the row would have, None if it wouldn't be there. patch: `would` holds only the
    cells that differ from the row as it is. blurred: column -> why its cell isn't known in this definition. real: as it
    is."""

    would: dict[str, Cell] | None
    real: dict[str, Cell] | None
    patch: bool = False
    blurred: dict[str, str] = field(default_factory=dict)
    doubts: list[LaterChange] = field(default_factory=list)


@dataclass
class Walker:
    """seqs: the transactions left out. keep_later: what becomes of a conflict."""

    label: str
    seqs: Collection[int]
    keep_later: bool = True
    later: list[LaterChange] = field(default_factory=list)
    _rows: dict[Key, _Row] = field(default_factory=dict)
    _alike: dict[Key, set[Key]] = field(default_factory=dict)  # loose key -> tracked keys
    _touched: dict[Key, dict[str, Cell]] = field(default_factory=dict)  # in this stage: the key's cells

    def conflicts(self) -> list[LaterChange]:
        """Those of rows that no later delete has cleared."""
        found = {id(doubt): doubt for row in self._rows.values() for doubt in row.doubts}
        return sorted(found.values(), key=lambda c: c.change.place)

    def corrections(self) -> Iterator[tuple[str, Mapping[str, Cell]]]:
        """(operation, cells) for each key that was touched in this stage, as it would be at its end. Raises
        NotComputable."""
        for key, given in self._touched.items():
            row = self._rows[key]
            if row.would is None:
                yield DELETE, given
                continue
            self._check_known(row, key)
            yield INSERT, row.would if not row.patch else {**(row.real or {}), **row.would}

    def next_stage(self, names: Mapping[str, str], blurred: Mapping[str, str]) -> None:
        """names: columns of the last definition -> of the next; blurred: columns of the last one whose values aren't carried
        over here, with the reason."""
        self._touched = {}
        for row in self._rows.values():
            if row.would is None:
                row.real = None
                continue
            differing = row.would
            if row.real is not None and not row.patch:
                real = row.real
                differing = {name: cell for name, cell in row.would.items() if cell != real.get(name)}
            row.patch = row.real is not None
            lost = {n: why for n, why in blurred.items() if n in differing} | row.blurred
            row.blurred = {names[n]: why for n, why in lost.items() if n in names}
            row.would = {names[n]: cell for n, cell in differing.items() if n in names and n not in blurred}
            if not row.patch:
                row.blurred = dict.fromkeys(names.values(), "the table was altered after it")

    def step(self, change: Change) -> None:
        """The next change, in the order of the archive."""
        if change.seq in self.seqs:
            self._left_out(change)
            return
        self._check_alike(change)
        if any(key in self._rows for key in change.keys):
            {INSERT: self._insert, DELETE: self._delete, UPDATE: self._update}[change.op](change)
            for image in (change.before, change.after):
                if image is not None:
                    row = self._track(image.key(), None)
                    self._alike.setdefault(loose_key(image), set()).add(image.key())
                    self._touch(image.key(), cells(image), change.table)
                    row.real = None if image is change.before else cells(image)

    def _check_alike(self, change: Change) -> None:
        """Raises NotComputable for a row that gets a key which a collation may take for that of a row which, without the
        transactions, is there."""
        if change.after is None or change.after.table.key == ():
            return
        new = change.after.key()
        old = None if change.before is None else change.before.key()
        for key in self._alike.get(loose_key(change.after), set()) - {new, old} if new != old else ():
            if self._rows[key].would is not None:
                who = f"{change.gtid or f'transaction {change.seq}'} at {change.binlog_file}:{change.binlog_pos}"
                raise NotComputable(
                    f"table `{self.label}`: {who} gave a row the key `{_shown(new)}`, and without the transaction the row "
                    f"`{_shown(key)}` is still there: under its collation that may be the same key",
                    hint=f"Restore to before it, or leave the table out with `--exclude '{self.label}'`.",
                )

    def _left_out(self, change: Change) -> None:
        for image in (change.before, change.after):
            if image is None:
                continue
            row = self._track(image.key(), cells(image) if image is change.before else None)
            self._alike.setdefault(loose_key(image), set()).add(image.key())
            if row.patch and image is change.before:
                row.would, row.patch = {**cells(image), **(row.would or {})}, False
            row.real = None if image is change.before else cells(image)
            self._touch(image.key(), cells(image), change.table)

    def _track(self, key: Key, would: dict[str, Cell] | None) -> _Row:
        return self._rows.setdefault(key, _Row(would, would))

    def _touch(self, key: Key, given: dict[str, Cell], table: Table) -> None:
        self._touched.setdefault(key, {name: given[name] for name in table.key})

    def _insert(self, change: Change) -> None:
        assert change.after is not None
        key = change.after.key()
        row = self._rows[key]
        doubt = self._note(change, key, PRESENT if row.would is not None else None)
        if row.would is None or self.keep_later:
            row.would, row.patch, row.blurred = cells(change.after), False, {}
        if doubt.why is not None:
            row.doubts = [*row.doubts, doubt]

    def _delete(self, change: Change) -> None:
        assert change.before is not None
        key = change.before.key()
        self._note(change, key, None)
        self._rows[key] = _Row(None, None)

    def _update(self, change: Change) -> None:
        assert change.before is not None
        assert change.after is not None
        old, new = change.before.key(), change.after.key()
        row = self._track(old, cells(change.before))
        other = self._track(new, None)
        now = row.would
        if row.patch and now is not None:
            now = {**cells(change.before), **now}
        why = ABSENT if now is None else TAKEN if other is not row and other.would is not None else None
        before = cells(change.before)
        again = tuple(n for n in change.changed if now is not None and (n in row.blurred or now[n] != before[n]))
        doubt = self._note(change, old if old in self._rows else new, why, again)
        doubts = [*row.doubts, *(other.doubts if other is not row else ()), *([doubt] if why else ())]
        if why is not None and not self.keep_later:
            row.would, row.patch = now, False
            row.doubts = other.doubts = doubts
            return
        after, blurred = cells(change.after), {}
        if now is not None and why is None:
            blurred = {n: reason for n, reason in row.blurred.items() if n not in change.changed}
            after = {name: after[name] if name in change.changed else cell for name, cell in now.items()}
        if other is not row:
            # A row that was in the way is gone for good, even if the one that took its key is deleted later.
            row.would, row.patch, row.blurred, row.doubts = None, False, {}, [doubt] if why == TAKEN else []
        other.would, other.patch, other.blurred, other.doubts = after, False, blurred, doubts

    def _note(self, change: Change, key: Key, why: str | None, again: tuple[str, ...] = ()) -> LaterChange:
        found = LaterChange(change, key, again, why)
        self.later.append(found)
        return found

    def _check_known(self, row: _Row, key: Key) -> None:
        for name, why in row.blurred.items():
            raise NotComputable(
                f"row `{_shown(key)}` of table `{self.label}` can't be computed without the transaction: column "
                f"`{name}` is not known in the table's later definition ({why})",
                hint="Restore to before that statement, or leave the table out with `--exclude`.",
            )


def _shown(key: Key) -> str:
    return ", ".join("NULL" if part is None else part for part in key)
