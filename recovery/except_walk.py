"""Rows as they would be without some transactions: a walk over the later changes of the rows that those had touched.

A row starts as the first of them found it. A later update sets the columns that it changed, with the values that it
logged, and leaves the others as they would be. What can't be so is a conflict: an update of a row that isn't there, an
insert of one that is, a move to a key that is taken. The row then stands as the later transaction left it (keep-later), or
that change is left out as well (drop-later). A later delete of the row ends a conflict: it is gone either way. Where a
collation may take the key of a row that isn't there for that of one that is, which row it was isn't known: refused.

Pure. Works in the definition of one stage at a time; `next_stage` carries the rows over a statement that altered the table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from recovery.alike import may_equal
from recovery.archive.segments import DELETE, INSERT
from recovery.errors import NotComputable
from recovery.except_rows import ALL, Cell, Key, Undone, cells, key_cells, keys_table, loose_key
from recovery.images import UPDATE, Change, Image
from recovery.refused import before_option
from recovery.schema import TEXT_TYPES, Table
from recovery.scope import TableName, label, spelled

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
    is. later: the columns that transactions which stay had set. place: the key's cells."""

    would: dict[str, Cell] | None
    real: dict[str, Cell] | None
    place: tuple[Cell, ...] = ()
    later: frozenset[str] = frozenset()
    patch: bool = False
    blurred: dict[str, str] = field(default_factory=dict)
    doubts: list[LaterChange] = field(default_factory=list)


@dataclass
class Walker:
    """seqs: the transactions left out. collations: of the key's columns. keep_later: what becomes of a conflict."""

    name: TableName
    seqs: Collection[int]
    collations: Sequence[str | None]
    keep_later: bool = True
    later: list[LaterChange] = field(default_factory=list)
    _rows: dict[Key, _Row] = field(default_factory=dict)
    _alike: dict[Key | None, set[Key]] = field(default_factory=dict)  # loose key, None without one -> tracked keys
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

    def undone(self, table: Table) -> Iterator[Undone]:
        """The rows that are otherwise, at the end; table: the definition there."""
        found: dict[tuple[frozenset[str] | None, frozenset[str]], list[tuple[Cell, ...]]] = {}
        for row in self._rows.values():
            if row.would is None:
                continue
            columns: frozenset[str] | None = ALL
            if row.patch:
                columns = frozenset((*row.would, *row.blurred))
            elif row.real is not None:
                real = row.real
                columns = frozenset(n for n, cell in row.would.items() if cell != real.get(n)).union(row.blurred)
            if columns is ALL or columns:
                found.setdefault((columns, row.later), []).append(row.place)
        for (columns, later), places in found.items():
            yield Undone(keys_table(table, places), columns, later)

    def next_stage(self, names: Mapping[str, str], blurred: Mapping[str, str]) -> None:
        """names: columns of the last definition -> of the next; blurred: columns of the last one whose values aren't carried
        over here, with the reason."""
        self._touched = {}
        for row in self._rows.values():
            row.later = frozenset(names[n] for n in row.later if n in names)
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
                    row = self._track(image, None)
                    self._touch(image.key(), cells(image), change.table)
                    row.real = None if image is change.before else cells(image)

    def _check_alike(self, change: Change) -> None:
        """Raises NotComputable for a row that isn't there without the transactions, or gets its key here, if a collation may
        take that key for the one of a row which is only there without them: which row it would be isn't known."""
        for image in (change.before, change.after):
            if image is None:
                continue
            key, row = image.key(), self._rows.get(image.key())
            new = change.before is None or (image is change.after and key != change.before.key())
            stands = row.would is not None if row is not None else not new
            if stands:
                continue
            form = loose_key(image, self.collations)
            near = set(self._rows) if form is None else self._alike.get(form, set()) | self._alike.get(None, set())
            for other in near - {key}:
                there = self._rows[other]
                if there.would is not None and there.real is None and self._may_equal(image.table, key, other):
                    raise self._alike_error(change, key, other)

    def _may_equal(self, table: Table, a: Key, b: Key) -> bool:
        columns = [table.column(name) for name in table.key]
        return all(
            x == y or (c.type in TEXT_TYPES and x is not None and y is not None and may_equal(x, y, collation))
            for c, collation, x, y in zip(columns, self.collations, a, b, strict=True)
        )

    def _alike_error(self, change: Change, key: Key, other: Key) -> NotComputable:
        who = change.gtid or f"transaction {change.seq}"
        named = " and ".join(sorted({f"`{c}`" for c in self.collations if c})) or "its collation"
        option = before_option(change.gtid, change.binlog_file, change.binlog_pos)
        return NotComputable(
            f"table `{label(self.name)}`: {who} at {change.binlog_file}:{change.binlog_pos} changed the row `{_shown(key)}` "
            f"({change.op}), and without the transaction the row `{_shown(other)}` is there: under {named} that may be the "
            "same key",
            hint=f"Restore to just before that with `{option}`, or leave the table out with "
            f"`--exclude '{spelled(self.name)}'`.",
        )

    def _left_out(self, change: Change) -> None:
        for image in (change.before, change.after):
            if image is None:
                continue
            row = self._track(image, cells(image) if image is change.before else None)
            if row.patch and image is change.before:
                row.would, row.patch = {**cells(image), **(row.would or {})}, False
            row.real = None if image is change.before else cells(image)
            self._touch(image.key(), cells(image), change.table)

    def _track(self, image: Image, would: dict[str, Cell] | None) -> _Row:
        key = image.key()
        if key not in self._rows:
            self._alike.setdefault(loose_key(image, self.collations), set()).add(key)
            self._rows[key] = _Row(would, would, key_cells(image))
        return self._rows[key]

    def _touch(self, key: Key, given: dict[str, Cell], table: Table) -> None:
        self._touched.setdefault(key, {name: given[name] for name in table.key})

    def _insert(self, change: Change) -> None:
        assert change.after is not None
        key = change.after.key()
        row = self._rows[key]
        doubt = self._note(change, key, PRESENT if row.would is not None else None)
        if row.would is None or self.keep_later:
            row.would, row.patch, row.blurred = cells(change.after), False, {}
            row.later = _all(change.table)
        if doubt.why is not None:
            row.doubts = [*row.doubts, doubt]

    def _delete(self, change: Change) -> None:
        assert change.before is not None
        key = change.before.key()
        self._note(change, key, None)
        self._rows[key] = _Row(None, None, key_cells(change.before))

    def _update(self, change: Change) -> None:
        assert change.before is not None
        assert change.after is not None
        old, new = change.before.key(), change.after.key()
        row = self._track(change.before, cells(change.before))
        other = self._track(change.after, None)
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
        after, blurred, later = cells(change.after), {}, _all(change.table)
        if now is not None and why is None:
            blurred = {n: reason for n, reason in row.blurred.items() if n not in change.changed}
            after = {name: after[name] if name in change.changed else cell for name, cell in now.items()}
            later = row.later.union(change.changed)
        if other is not row:
            # A row that was in the way is gone for good, even if the one that took its key is deleted later.
            row.would, row.patch, row.blurred, row.doubts = None, False, {}, [doubt] if why == TAKEN else []
        other.would, other.patch, other.blurred, other.doubts = after, False, blurred, doubts
        other.later = later

    def _note(self, change: Change, key: Key, why: str | None, again: tuple[str, ...] = ()) -> LaterChange:
        found = LaterChange(change, key, again, why)
        self.later.append(found)
        return found

    def _check_known(self, row: _Row, key: Key) -> None:
        for name, why in row.blurred.items():
            raise NotComputable(
                f"row `{_shown(key)}` of table `{label(self.name)}` can't be computed without the transaction: column "
                f"`{name}` is not known in the table's later definition ({why})",
                hint="Restore to before that statement, or leave the table out with `--exclude`.",
            )


def _shown(key: Key) -> str:
    return ", ".join("NULL" if part is None else part for part in key)


def _all(table: Table) -> frozenset[str]:
    return frozenset(c.name for c in table.columns)
