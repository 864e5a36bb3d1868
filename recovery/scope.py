"""Which tables a restore is about: the user's patterns against what the usable snapshots hold.

A pattern is `db.table` with fnmatch's wildcards, compared with case; a table's literal name wins over the pattern that it
would be. A name in backticks is meant literally, dots, commas and wildcards included: '`my.db`.`a,b`'. A pattern with
several dots that fits tables of more than one database is refused, never guessed. Nothing is passed over in silence: a
pattern without a match is UnknownTable with near names, and tables in scope that a plan can't hold become warnings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from recovery.config import wanted
from recovery.errors import ConfigError, UnknownTable
from recovery.near import near_names
from recovery.quoting import quote

if TYPE_CHECKING:
    from recovery.archive.actions import Snapshot, Writer
    from recovery.archive.state import ArchiveState

TableName = tuple[str, str]
_QUOTED = r"`(?:[^`]|``)+`"
# One name in backticks, the other in backticks or bare.
_WITH_QUOTES = re.compile(rf"({_QUOTED})\.({_QUOTED}|[^`]+)|([^`]+)\.({_QUOTED})", re.DOTALL)


def label(name: TableName) -> str:
    return f"{name[0]}.{name[1]}"


def uncaptured(state: ArchiveState, name: TableName, first_seq: int, last_seq: int) -> Writer | None:
    """The first writer whose filter left this table out while transactions of first_seq..last_seq passed; None if every
    change of the table in that range is in the archive."""
    ends = [*(w.after_seq for w in state.writers[1:]), state.last_seq]
    for writer, until in zip(state.writers, ends, strict=False):
        overlaps = max(first_seq, writer.after_seq + 1) <= min(last_seq, until)
        if overlaps and not wanted(writer.include, writer.exclude, *name):
            return writer
    return None


@dataclass(frozen=True)
class Part:
    """The pattern of a database's or a table's name. quoted: the very name."""

    text: str
    quoted: bool = False

    def matches(self, name: str) -> bool:
        return name == self.text or (not self.quoted and fnmatchcase(name, self.text))


@dataclass(frozen=True)
class Pattern:
    """One pattern and the (database, table) pairs of parts that it can be read as: one for each bare dot. Without any, the
    text stands for a whole `db.table`, as `*` does."""

    text: str
    readings: tuple[tuple[Part, Part], ...]

    def is_name(self, name: TableName) -> bool:
        return any((db.text, table.text) == name for db, table in self.readings)

    def matches(self, name: TableName) -> bool:
        if not self.readings:
            return fnmatchcase(label(name), self.text)
        return any(db.matches(name[0]) and table.matches(name[1]) for db, table in self.readings)

    def select(self, held: Collection[TableName]) -> tuple[list[TableName], bool]:
        """The tables that match, and whether the pattern is their very name. Raises ConfigError if it can be read in
        several ways and more than one fits."""
        literal = [name for name in held if self.is_name(name)]
        found = literal or [name for name in held if self.matches(name)]
        fitting = [
            (db, table)
            for db, table in self.readings
            if any(((db.text, table.text) == n if literal else db.matches(n[0]) and table.matches(n[1])) for n in found)
        ]
        if len(fitting) > 1:
            both = " or ".join(quote(db.text, table.text) for db, table in fitting)
            raise ConfigError(
                f"`{self.text}` may mean {both}",
                hint="Put a name with dots in backticks, and the whole in single quotes for the shell.",
            )
        return found, bool(literal)


def parse_pattern(text: str) -> Pattern:
    """Raises ConfigError for an empty text."""
    if not text.strip():
        raise ConfigError("an empty text is no table's name", hint="Write database.table, for example shop.orders.")
    match = _WITH_QUOTES.fullmatch(text)
    if match:
        db, table = (part for part in match.groups() if part is not None)
        return Pattern(text, ((_part(db), _part(table)),))
    dots = [at for at, char in enumerate(text) if char == "." and 0 < at < len(text) - 1]
    return Pattern(text, tuple((Part(text[:at]), Part(text[at + 1 :])) for at in dots))


def _part(text: str) -> Part:
    if text.startswith("`") and text.endswith("`") and len(text) > 2:
        return Part(text[1:-1].replace("``", "`"), quoted=True)
    return Part(text)


def spelled(name: TableName) -> str:
    """A table's name as a pattern that means it alone."""
    plain = all(re.fullmatch(r"[\w$-]+", part) for part in name)
    return label(name) if plain else quote(*name)


def split_patterns(option: str, values: Sequence[str] | None) -> tuple[str, ...]:
    """A repeated option whose values may be lists with commas; a comma in backticks belongs to a name. Raises ConfigError
    for a value without any name: it must not mean "all"."""
    found: list[str] = []
    for value in values or ():
        if value.count("`") % 2:
            raise ConfigError(
                f"`{option}` has a backtick without its partner: {value}",
                hint="A backtick inside of a name is written as two, and such a name stands in backticks.",
            )
        parts = [part.strip() for part in re.findall(r"(?:`[^`]*`|[^`,])+", value)]
        if not any(parts):
            raise ConfigError(f"`{option}` is empty", hint="Name tables as db.table, or leave the option out for all.")
        found += [part for part in parts if part]
    return tuple(found)


def choose(
    held: Collection[TableName],
    newest: Snapshot,
    snapshots: Iterable[Snapshot],
    patterns: Sequence[Pattern],
    exclude: Sequence[Pattern] = (),
) -> list[tuple[TableName, bool]]:
    """The tables to restore, sorted, each with whether the user named it without a wildcard.

    held: the tables of all usable snapshots, of which `newest` is the newest. snapshots: all there are, for the message.
    """
    chosen: dict[TableName, bool] = {} if patterns else dict.fromkeys(held, False)
    for pattern in patterns:
        matches, literal = pattern.select(held)
        if not matches:
            raise _unknown(held, newest, snapshots, pattern)
        for name in matches:
            chosen[name] = chosen.get(name, False) or literal
    excluded = {name for pattern in exclude for name in pattern.select(held)[0]}
    kept = sorted((name, named) for name, named in chosen.items() if name not in excluded)
    if not kept and chosen:
        raise UnknownTable("`--exclude` leaves no table to restore", hint="Exclude less, or name other `--tables`.")
    return kept


def left_out(
    newest: Snapshot,
    planned: set[TableName],
    patterns: Sequence[Pattern],
    changed: Iterable[TableName],
    exclude: Sequence[Pattern] = (),
) -> list[str]:
    """Warnings for tables in scope that the plan doesn't hold. changed: the tables that the archive has changes of."""

    def wanted(name: TableName) -> bool:
        return name not in planned and in_scope(name, patterns, exclude)

    notes = [
        f"table `{db}.{table}` was left out of the snapshot: {why}"
        for db, table, why in newest.skipped
        if wanted((db, table)) and why not in ("view", "sequence")
    ]
    skipped = {(db, table) for db, table, _ in newest.skipped}
    held = {(b.db, b.table) for b in newest.baselines}
    notes.extend(
        f"table `{label(name)}` has changes in the archive but no snapshot that this target can use; it is left out"
        for name in sorted(changed)
        if wanted(name) and name not in skipped and name not in held
    )
    return notes


def in_scope(name: TableName, patterns: Sequence[Pattern], exclude: Sequence[Pattern]) -> bool:
    wanted = not patterns or any(p.matches(name) for p in patterns)
    return wanted and not any(p.matches(name) for p in exclude)


def _unknown(
    held: Collection[TableName], newest: Snapshot, snapshots: Iterable[Snapshot], pattern: Pattern
) -> UnknownTable:
    for db, table, why in newest.skipped:
        if pattern.matches((db, table)):
            return UnknownTable(
                f"table `{db}.{table}` was left out of snapshot {newest.snapshot_id}: {why}",
                hint="Remove the reason and take a snapshot; the table can be restored to any later point.",
            )
    elsewhere = {(b.db, b.table) for s in snapshots for b in s.baselines}
    if any(pattern.matches(name) for name in elsewhere):
        return UnknownTable(
            f"no snapshot that can serve this target holds table `{pattern.text}`; another one does",
            hint="Choose a later target, at or after the snapshot that holds it (`rowback status` lists them).",
        )
    near = near_names(pattern.text, held)
    hint = f"Did you mean {', '.join(f'`{n}`' for n in near)}?" if near else "`rowback status` lists the snapshots."
    return UnknownTable(f"no table of the archive matches `{pattern.text}`", hint=hint)


def check_exclude(patterns: Iterable[Pattern], held: Collection[TableName], state: ArchiveState) -> None:
    """Raises UnknownTable for a pattern that fits nothing that the archive knows of: a table that was to be left out and
    isn't is an error. held: the tables that may be restored."""
    elsewhere = {(o.db, state.stored_name(o.name)) for s in state.snapshots for o in s.objects}
    elsewhere |= {(db, table) for s in state.snapshots for db, table, _ in s.skipped}
    elsewhere |= {(b.db, b.table) for s in state.snapshots for b in s.baselines}
    elsewhere |= {(s.db, s.table) for s in state.segments}
    for pattern in patterns:
        if not pattern.select(held)[0] and not any(pattern.matches(name) for name in elsewhere):
            near = near_names(pattern.text, held)
            hint = (
                f"Did you mean {', '.join(f'`{n}`' for n in near)}?"
                if near
                else "Leave it out; `--dry-run` lists the tables."
            )
            raise UnknownTable(f"`--exclude` of `{pattern.text}` matches no table of the archive", hint=hint)


def of_databases(names: Iterable[str]) -> tuple[str, ...]:
    """`--databases` as patterns of tables. A name with a dot is meant literally unless it has wildcards."""
    return tuple(f"{quote(n)}.*" if "." in n and not set("*?`[") & set(n) else f"{n}.*" for n in names)
