"""The statements that make a restored table's definition: CREATE TABLE and the DDL behind it, under its name at the cut.

The target server runs them itself, on an empty table, so that every detail of the definition is the server's. What would
mean something else there is written for its place (recovery/references.py) or refused: keys whose actions the source didn't
log, a copy (LIKE) of a table whose foreign keys came by DDL.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from sqlglot.errors import SqlglotError

from recovery.archive.actions import Ddl
from recovery.archive.state import ArchiveState
from recovery.cascades import unlogged_action
from recovery.database_defaults import default_at
from recovery.ddl import TableName
from recovery.dropped_keys import dropped, live
from recovery.errors import NotComputable, RowbackError
from recovery.lineage import Lineage, Step
from recovery.objects.sequence_uses import qualified
from recovery.other_settings import other_settings
from recovery.quoting import quote
from recovery.references import Parent, copied, followed, parents, rewritten
from recovery.refused import refused
from recovery.retarget import NotRewritten, named_table, retargeted
from recovery.scope import label, spelled
from recovery.sqlscan import bare
from recovery.statement_settings import with_settings
from recovery.tableinfo import system_versioned
from recovery.tokens import keyword, outside, tokens_of

_DEFAULT: Final = re.compile(r"\b(?:CHARSET|CHARACTER\s+SET)\s*=?\s*DEFAULT\b", re.IGNORECASE)
_CHECK: Final = re.compile(r"\bCHECK\b", re.IGNORECASE)
_DROPS: Final = re.compile(r"\bDROP\s+(FOREIGN|CONSTRAINT)\b", re.IGNORECASE)
_KEYED: Final = re.compile(r"\b(REFERENCES|FOREIGN|CONSTRAINT|CHECK)\b", re.IGNORECASE)


def program(state: ArchiveState, low_seq: int, cut_seq: int, lineage: Lineage) -> Iterator[str]:
    """The statements that create a table as it was defined at the cut. low_seq: of the snapshot that it comes from. Raises
    DdlInRange and NotComputable."""
    return (text for _, text in written(state, low_seq, cut_seq, lineage))


def written(state: ArchiveState, low_seq: int, cut_seq: int, lineage: Lineage) -> Iterator[tuple[Step | None, str]]:
    """The same, each with its step; None for what creates the table."""
    flavor = state.identity.flavor if state.identity else None
    texts = [*_texts(state, lineage, flavor)]
    versioned = flavor == "mariadb" and any(system_versioned(text) for text, _, _, _ in texts)
    for (text, default_db, ddl, step), gone in zip(texts, _dropped(texts, lineage), strict=True):
        if ddl is not None and (why := other_settings(ddl, flavor)) is not None:
            raise refused(lineage.name, ddl, why)
        follow = _follower(state, low_seq if ddl is None else ddl.seq, cut_seq)
        try:
            if _by_database(text, creates=step is None):
                ran = low_seq if ddl is None else ddl.seq
                if why := _other_default(state, lineage, text, default_db, (ran, cut_seq)):
                    raise NotRewritten(why) if ddl is None else refused(lineage.name, ddl, why)
            if not gone and _same(text, default_db, ddl, lineage, follow):
                yield step, text
                continue
            if _KEYED.search(text):
                text = rewritten(text, default_db, lineage.name, flavor, follow, gone)
            target = retargeted(qualified(text, default_db, state.stored_name), lineage.name)
        except NotRewritten as error:
            raise _unwritten(lineage, ddl, error) from error
        if target is not None:
            yield step, target if ddl is None else with_settings(target, ddl.session, flavor, versioned=versioned)


def _names_charset(create: str) -> bool:
    """Whether a CREATE TABLE says what its character set is, not only its columns'. What can't be read is the server's own
    text, which does."""
    try:
        return any(keyword(t) in ("CHARSET", "CHARACTER", "COLLATE") for t in outside(tokens_of(bare(create))))
    except SqlglotError:
        return True


def _by_database(text: str, *, creates: bool) -> bool:
    """Whether the statement takes its database's default character set."""
    return _DEFAULT.search(text) is not None or (creates and not _names_charset(text))


def _other_default(
    state: ArchiveState, lineage: Lineage, text: str, default_db: str, seqs: tuple[int, int]
) -> str | None:
    """Why a statement that takes its database's default character set would take another one at the target; None if it is
    the same. seqs: when it ran, and the cut."""
    home, target = named_table(text, default_db)[0], lineage.name[0]
    was, now = (default_at(state, db, seq) for db, seq in zip((home, target), seqs, strict=True))
    if was is None or now is None:
        return f"the default character set of database `{home if was is None else target}` isn't known"
    if was.casefold() != now.casefold():
        return (
            f"it took the default character set of database `{home}` ({was}), and that of `{target}` is another ({now})"
        )
    return None


# With its default database and its step; of a snapshot's own there is no logged statement.
_Text: TypeAlias = tuple[str, str, Ddl | None, Step | None]


def _texts(state: ArchiveState, lineage: Lineage, flavor: str | None) -> Iterator[_Text]:
    create = lineage.create
    first: _Text = (create.statement, create.default_db, create.ddl, None)
    steps: list[_Text] = [
        (step.ddl.statement, step.ddl.default_db, None if step.held else step.ddl, step) for step in lineage.program
    ]
    made = create.copied[-1].seq if create.copied else -1
    others = [step.ddl.seq < made for step in lineage.program].count(True)
    if any(_KEYED.search(text) for text, _, _, _ in steps[:others]):
        yield from _of_other_tables(lineage, [first, *steps[:others]])
    else:
        if create.copied and create.ddl is None:
            try:
                first = (copied(create.statement, flavor), create.default_db, None, None)
            except NotRewritten as error:
                raise _unwritten(lineage, None, error) from error
        for given in (first, *steps[:others]):
            yield _allowed(state, lineage, given)
    for given in steps[others:]:
        yield _allowed(state, lineage, given)


def _allowed(state: ArchiveState, lineage: Lineage, given: _Text) -> _Text:
    statement, _, ddl, _ = given
    if ddl is not None and unlogged_action(state, statement):
        why = "its foreign key may have changed rows without the server logging it"
        raise refused(lineage.name, ddl, why, replayed=False)
    return given


def _of_other_tables(lineage: Lineage, texts: Sequence[_Text]) -> Iterator[_Text]:
    """The statements from before the table was made LIKE another one, some of which made keys: these are dropped where the
    copy was made, which has their indexes but not them. What they did to rows is no matter: a copy begins empty."""
    played: list[tuple[str, str]] = []
    likes = list(lineage.create.copied)
    for given in texts:
        step = given[3]
        while step is not None and likes[0].seq < step.ddl.seq:
            yield from _without_keys(lineage, played, likes.pop(0))
        played.append(given[:2])
        yield given
    for like in likes:
        yield from _without_keys(lineage, played, like)


def _without_keys(lineage: Lineage, played: list[tuple[str, str]], like: Ddl) -> Iterator[_Text]:
    try:
        names = None if any(_CHECK.search(text) for text, _ in played) else live(played)
        db, table = named_table(*played[-1])
    except NotRewritten as error:
        raise _unwritten(lineage, like, error) from error
    if names is None:
        raise refused(lineage.name, like, "the constraints that the other table had by then aren't those of the copy")
    if names:
        drops = ", ".join(f"DROP FOREIGN KEY {quote(name)}" for name in names)
        played.append((f"ALTER TABLE {quote(db, table)} {drops}", db))
        yield (*played[-1], like, Step(like, ()))


def _dropped(texts: Sequence[_Text], lineage: Lineage) -> list[frozenset[int]]:
    if not any(_DROPS.search(text) for text, _, _, _ in texts):
        return [frozenset()] * len(texts)
    try:
        return dropped([(text, default_db) for text, default_db, _, _ in texts])
    except NotRewritten as error:
        raise _unwritten(lineage, texts[-1][2], error) from error


def _unwritten(lineage: Lineage, ddl: Ddl | None, error: NotRewritten) -> RowbackError:
    if ddl is None:
        return NotComputable(
            f"table `{label(lineage.name)}` can't be created under its name at the target: {error}",
            hint="Take a new snapshot: targets at or after it can be restored. Or leave the table out with "
            f"`--exclude '{spelled(lineage.name)}'`.",
        )
    return refused(lineage.name, ddl, f"it can't be written for its name at the target ({error})")


def _follower(state: ArchiveState, low_seq: int, cut_seq: int) -> Callable[[Parent], Parent]:
    return lambda parent: followed(state.ddls, low_seq, cut_seq, parent)


def _same(text: str, default_db: str, ddl: Ddl | None, lineage: Lineage, follow: Callable[[Parent], Parent]) -> bool:
    """Whether it is the snapshot's own text and still says what it said."""
    baseline = lineage.baseline
    if ddl is not None or baseline is None or lineage.name != (baseline.db, baseline.table):
        return False
    return not _KEYED.search(text) or all(follow(parent) == parent for parent in parents(text, default_db))


def in_place(schemas: Mapping[TableName, Sequence[str]], flavor: str | None) -> dict[TableName, tuple[str, ...]]:
    """The tables' statements in an order that servers take: a table that others refer to, and that isn't made by one
    statement, is made under another name first. For while foreign keys wait for it, a server compares each of its
    definitions with them (MySQL even without foreign_key_checks), and only the last one need fit."""
    awaited = {p for name, texts in schemas.items() for text in texts for p in _parents(text, name) if p != name}
    return {
        name: _aside(texts, name, flavor) if name in awaited and len(texts) > 1 else tuple(texts)
        for name, texts in schemas.items()
    }


def _parents(statement: str, name: TableName) -> Iterator[TableName]:
    if not _KEYED.search(statement):
        return
    try:
        yield from (parent.table for parent in parents(statement, name[0]))
    except NotRewritten as error:
        raise NotComputable(
            f"the foreign keys of table `{label(name)}` can't be read: {error}",
            hint=f"Leave it out with `--exclude '{spelled(name)}'`.",
        ) from error


def _aside(texts: Sequence[str], name: TableName, flavor: str | None) -> tuple[str, ...]:
    aside = name[0], f"rowback_new_{hashlib.sha256(label(name).encode()).hexdigest()[:16]}"
    moved = [retargeted(rewritten(text, name[0], aside, flavor, lambda p: p), aside) for text in texts]
    old, new = (quote(db, table) for db, table in (aside, name))
    return (*(text for text in moved if text is not None), f"RENAME TABLE {old} TO {new}")
