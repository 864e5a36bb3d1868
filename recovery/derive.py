"""What foreign keys did below the binlog: the changes of children, worked out from the changes of their parents.

`derive` walks the logged changes of a family of tables in the order of (seq, ordinal) with the rows that they can reach,
and carries ON DELETE and ON UPDATE actions out as InnoDB does (MySQL's storage/innobase/row/row0ins.cc,
row_ins_foreign_check_on_constraint; MariaDB's the same): at once, for each row, recursively. An event whose flags say that
its session had foreign_key_checks = 0, or that foreign keys were carried out above the engine, does nothing.

Pure. It is given a part of the rows and says what else it has to know (`Derived.wanted`); its result holds only once that
is empty. Every logged image of a row that it keeps must fit the state that it has worked out, else it refuses
(NotComputable): the server's own later changes are the proof.

Not derived, but refused: keys with different bytes that a collation may take for equal, unless the child's key is byte for
byte that of another parent. Not seen: a child inserted with foreign_key_checks = 0 by another session while its parent's
deletion is not yet committed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from recovery.alike import loose
from recovery.archive.segments import DELETE, INSERT, NO_FOREIGN_KEY_CHECKS, USE_SQL_FOREIGN_KEY
from recovery.errors import NotComputable
from recovery.foreignkeys import Cell, ForeignKey, Key, TableName, has_null, text_columns
from recovery.images import Change, Image
from recovery.schema import Table

NULL: Final[Cell] = (None, None)
# Which rows are wanted: by table and columns, the keys whose rows must be known.
Wanted: TypeAlias = dict[tuple[TableName, tuple[str, ...]], set[Key]]
_Loose: TypeAlias = tuple[object, ...]
_Compared: TypeAlias = tuple[tuple[bool, ...], tuple[str | None, ...]]  # which columns are texts, and their collations


@dataclass(frozen=True)
class Member:
    """A table of the family. rows: at the beginning; changes: in (seq, ordinal) order, those of rows whose keys are in
    `tracked` and those that fire actions. tracked: primary keys of rows that are known throughout."""

    definition: Table
    rows: Sequence[Image] = ()
    changes: Sequence[Change] = ()
    tracked: frozenset[Key] = frozenset()


@dataclass(frozen=True)
class DerivedChange:
    """A row that an action deleted (op "delete", its last image) or changed (op "insert": the image that replaces the row of
    this key) in the wake of the logged change at (seq, ordinal)."""

    seq: int
    ordinal: int
    op: str
    image: Image


@dataclass
class Derived:
    """changes by table; wanted: what has to be known beside what was given, for them to be true."""

    changes: dict[TableName, list[DerivedChange]] = field(default_factory=lambda: defaultdict(list))
    wanted: Wanted = field(default_factory=lambda: defaultdict(set))


def key_of(image: Image, columns: Sequence[str]) -> Key:
    return tuple(image.cell(name) for name in columns)


def derive(
    members: Mapping[TableName, Member],
    edges: Sequence[ForeignKey],
    known: Mapping[tuple[TableName, tuple[str, ...]], set[Key]],
    unique: frozenset[tuple[TableName, tuple[str, ...]]] = frozenset(),
) -> Derived:
    """edges: the foreign keys with actions, all tables of which are members, named alike. known: the keys whose rows were
    looked for when the members were made. unique: (parent, referenced columns) under a unique key.

    Raises NotComputable for events without flags, ambiguous keys, and images that contradict what was derived.
    """
    run = _Run(members, edges, known, unique)
    changes = (((c.seq, c.ordinal), name, c) for name, m in members.items() for c in m.changes)
    for _, name, change in sorted(changes, key=lambda found: found[0]):
        run.play(name, change)
    if not run.derived.wanted and run.complaint is not None:
        raise run.complaint
    return run.derived


class _Rows:
    """The known rows of one table, by primary key and by the column lists that foreign keys use."""

    def __init__(
        self, of: Member, lists: Iterable[tuple[str, ...]], compared: Mapping[tuple[str, ...], _Compared]
    ) -> None:
        """compared: by the column lists that have texts."""
        self.table = of.definition
        self.tracked = of.tracked
        self.rows: dict[Key, Image] = {}
        self.by: dict[tuple[str, ...], dict[Key, dict[Key, None]]] = {columns: {} for columns in lists}
        self._compared = compared
        # Keys that were there at some time, by their loose form; under None those that have none.
        self._alike: dict[tuple[str, ...], dict[_Loose | None, dict[Key, None]]] = {c: {} for c in compared}
        for row in of.rows:
            self.put(row)

    def key(self, image: Image) -> Key:
        return key_of(image, self.table.key)

    def put(self, image: Image) -> None:
        own = self.key(image)
        self.remove(own)
        self.rows[own] = image
        for columns, index in self.by.items():
            key = key_of(image, columns)
            index.setdefault(key, {})[own] = None
            if columns in self._compared and not has_null(key):
                form = loose_key(key, *self._compared[columns])
                self._alike[columns].setdefault(None if None in form else form, {})[key] = None

    def alike(self, columns: tuple[str, ...], key: Key) -> Iterator[Key]:
        """Other keys of rows that a collation may take for this one."""
        form = loose_key(key, *self._compared[columns])
        forms = self._alike[columns]
        groups = forms.values() if None in form else [forms.get(form, {}), forms.get(None, {})]
        for other in (k for group in groups for k in group):
            there = other != key and other in self.by[columns]
            if there and may_match(form, loose_key(other, *self._compared[columns])):
                yield other

    def remove(self, own: Key) -> Image | None:
        image = self.rows.pop(own, None)
        if image is not None:
            for columns, index in self.by.items():
                held = index[key_of(image, columns)]
                held.pop(own)
                if not held:
                    del index[key_of(image, columns)]
        return image


class _Run:
    def __init__(
        self,
        members: Mapping[TableName, Member],
        edges: Sequence[ForeignKey],
        known: Mapping[tuple[TableName, tuple[str, ...]], set[Key]],
        unique: frozenset[tuple[TableName, tuple[str, ...]]],
    ) -> None:
        self.derived = Derived()
        self.complaint: NotComputable | None = None
        self._known = known
        self._unique = unique
        self._below: dict[TableName, list[ForeignKey]] = defaultdict(list)
        lists: dict[TableName, set[tuple[str, ...]]] = defaultdict(set)
        compared: dict[TableName, dict[tuple[str, ...], _Compared]] = defaultdict(dict)
        for edge in edges:
            self._below[edge.parent].append(edge)
            lists[edge.child].add(edge.columns)
            lists[edge.parent].add(edge.referenced)
            texts = text_columns(members[edge.child].definition, edge.columns)
            if any(texts):
                compared[edge.child][edge.columns] = (texts, edge.collations)
        self._compared = compared
        self._rows = {name: _Rows(m, lists[name], compared[name]) for name, m in members.items()}
        self._concerned = {name: sorted({c for columns in lists[name] for c in columns}) for name in members}
        self._at = (0, 0)
        self._touched: dict[tuple[TableName, Key], Image | None] = {}

    def play(self, name: TableName, change: Change) -> None:
        """A logged change, and what follows from it."""
        self._at, self._touched = change.place, {}
        rows = self._rows[name]
        if rows.table.key:
            self._apply(name, rows, change)
        if change.op != INSERT and self._fires(name, change):
            before = change.before
            assert before is not None
            if change.op == DELETE:
                self._deleted(name, before)
            else:
                assert change.after is not None
                self._updated(name, before, change.after, change.changed)
        own = {rows.key(i) for i in (change.before, change.after) if i is not None} if rows.table.key else set()
        for (table, key), before in self._touched.items():
            if table == name and key in own:
                self._complain(name, "a foreign key changed the very row that fired it")
            self._note(table, key, before)

    def _note(self, table: TableName, key: Key, before: Image | None) -> None:
        after = self._rows[table].rows.get(key)
        if after is not None and after is not before:
            self.derived.changes[table].append(DerivedChange(*self._at, INSERT, after))
        elif after is None and before is not None:
            self.derived.changes[table].append(DerivedChange(*self._at, DELETE, before))

    def _fires(self, name: TableName, change: Change) -> bool:
        edges = [e for e in self._below[name] if _acts(e, change)]
        if not edges:
            return False
        if change.flags is None:
            raise NotComputable(
                f"table `{_label(edges[0].child)}` can't be restored: `{_label(name)}` was changed at "
                f"{change.binlog_file}:{change.binlog_pos}, captured by a version of Rowback that kept no event flags, and "
                "its foreign key may have changed rows without the server logging it",
                hint="Restore to before that, or take a new snapshot; changes that are captured from now on have them.",
            )
        return not change.flags & (NO_FOREIGN_KEY_CHECKS | USE_SQL_FOREIGN_KEY)

    def _apply(self, name: TableName, rows: _Rows, change: Change) -> None:
        if change.before is not None:
            key = rows.key(change.before)
            held = rows.remove(key)
            if key in rows.tracked:
                self._compare(name, held, change.before)
        if change.after is not None:
            key = rows.key(change.after)
            if key in rows.tracked and key in rows.rows:
                self._complain(name, "a row was inserted that is there already")
            rows.put(change.after)

    def _compare(self, name: TableName, held: Image | None, logged: Image) -> None:
        if held is None:
            self._complain(name, "a row was changed that isn't there any more")
        elif any(held.cell(c) != logged.cell(c) for c in self._concerned[name]):
            self._complain(name, "a row's key to its parent isn't what follows from the parent's changes")

    def _complain(self, name: TableName, what: str) -> None:
        if self.complaint is None:
            self.complaint = NotComputable(
                f"table `{_label(name)}` can't be restored: what its foreign keys did was worked out, and transaction "
                f"{self._at[0]} contradicts it: {what}",
                hint="Restore to before that, or to after a new snapshot; please report this, with the tables' definitions.",
            )

    # --- actions ---------------------------------------------------------------------------------------------------------

    def _deleted(self, parent: TableName, row: Image) -> None:
        for edge in self._below[parent]:
            for child in self._matching(edge, row) if edge.on_delete else ():
                if edge.on_delete == "CASCADE":
                    self._touch(edge.child, child)
                    self._rows[edge.child].remove(self._rows[edge.child].key(child))
                    self._deleted(edge.child, child)
                else:
                    self._change(edge.child, child, dict.fromkeys(edge.columns, NULL))

    def _updated(self, parent: TableName, before: Image, after: Image, changed: Sequence[str]) -> None:
        for edge in self._below[parent]:
            pairs = [(c, r) for c, r in zip(edge.columns, edge.referenced, strict=True) if r in changed]
            if not edge.on_update or not pairs:
                continue
            for child in self._matching(edge, before):
                if edge.on_update == "CASCADE":
                    self._change(edge.child, child, {c: after.cell(r) for c, r in pairs})
                else:
                    self._change(edge.child, child, dict.fromkeys(edge.columns, NULL))

    def _change(self, name: TableName, row: Image, cells: Mapping[str, Cell]) -> None:
        rows = self._rows[name]
        changed = tuple(c for c, cell in cells.items() if row.cell(c) != cell)
        if not changed:
            return
        values = list(row.values)
        exact = dict(row.exact)
        for column in changed:
            values[row.positions[column]], text = cells[column]
            exact.pop(column, None)
            if text is not None:
                exact[column] = text
        after = replace(row, values=tuple(values), exact=exact)
        old, new = rows.key(row), rows.key(after)
        self._touch(name, row)
        if new != old:
            self._want((name, rows.table.key), new)
            self._touched.setdefault((name, new), rows.rows.get(new))
            rows.remove(old)
        rows.put(after)
        self._updated(name, row, after, changed)

    def _touch(self, name: TableName, row: Image) -> None:
        key = self._rows[name].key(row)
        self._touched.setdefault((name, key), self._rows[name].rows.get(key))

    # --- matching --------------------------------------------------------------------------------------------------------

    def _want(self, where: tuple[TableName, tuple[str, ...]], key: Key) -> None:
        if key not in self._known.get(where, ()):
            self.derived.wanted[where].add(key)

    def _matching(self, edge: ForeignKey, parent: Image) -> Iterator[Image]:
        """The child's rows that refer to this row of the parent, as each is when its turn comes."""
        key = key_of(parent, edge.referenced)
        if has_null(key):
            return
        self._want((edge.child, edge.columns), key)
        rows = self._rows[edge.child]
        if edge.columns in self._compared[edge.child]:
            self._check_collation(edge, key)
        for own in list(rows.by[edge.columns].get(key, ())):
            row = rows.rows.get(own)
            if row is not None and key_of(row, edge.columns) == key:
                yield row

    def _check_collation(self, edge: ForeignKey, key: Key) -> None:
        where = (edge.parent, edge.referenced)
        for other in self._rows[edge.child].alike(edge.columns, key):
            if where in self._unique:
                self._want(where, other)
                if other in self._rows[edge.parent].by[edge.referenced]:
                    continue
            if self.complaint is None:
                columns = ", ".join(edge.columns)
                self.complaint = NotComputable(
                    f"table `{_label(edge.child)}` can't be restored: after a change of `{_label(edge.parent)}` in "
                    f"transaction {self._at[0]}, whether its foreign key ({columns}) reaches rows depends on how the server "
                    "compares texts with different bytes",
                    hint="Restore to before that, or to after a new snapshot. Write parents' keys and references to them "
                    "alike, or give the columns a binary collation.",
                )


def loose_key(key: Key, texts: Sequence[bool], collations: Sequence[str | None]) -> _Loose:
    """A key with its texts as `recovery.alike.loose` has them; None in the place of one that can't be compared."""
    return tuple(
        (loose(value, collation) if isinstance(value, str) and exact is None else None) if text else (value, exact)
        for (value, exact), text, collation in zip(key, texts, collations, strict=True)
    )


def may_match(one: _Loose, other: _Loose) -> bool:
    return all(a == b or a is None or b is None for a, b in zip(one, other, strict=True))


def _acts(edge: ForeignKey, change: Change) -> bool:
    if change.op == DELETE:
        return bool(edge.on_delete)
    return bool(edge.on_update) and not set(edge.referenced).isdisjoint(change.changed)


def _label(name: TableName) -> str:
    return f"{name[0]}.{name[1]}"
