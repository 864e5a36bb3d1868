"""Other names in a restore's output: `--rename shop=shop_restored`, `--rename shop.orders=shop.orders_old`.

`renamed` gives a plan whose databases and tables have their new names, in CREATE TABLE and in foreign keys, too; what
follows (files, manifest, load scripts) takes the names from the plan. A rule for a table goes before one for its database.
References to tables that aren't restored follow a renamed database as well, so that nothing that is loaded beside the
original points into it. A table that moves on its own loses its constraints' names, which are unique in a database; the
server gives new ones.

Pure. Refused by name: names that collide, a rule that fits nothing, a definition that names an old name where it isn't
understood. Names are compared with case.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from recovery.errors import ConfigError, NotComputable, UnknownTable
from recovery.near import near_names
from recovery.objects.renaming import Names, objects_renamed
from recovery.objects.sequence_uses import renamed as sequences_renamed
from recovery.objects.sequence_uses import uses
from recovery.objects.sequences import LiveSequence
from recovery.quoting import quote
from recovery.references import parents as parents_of
from recovery.restore_plan import RestorePlan, TablePlan
from recovery.retarget import NotRewritten, retargeted
from recovery.scope import TableName, label
from recovery.tokens import tokens_of

_PART: Final = r"(?:`(?:[^`]|``)+`|[^`.=]+)"
_RULE: Final = re.compile(rf"({_PART})(?:\.({_PART}))?=({_PART})(?:\.({_PART}))?", re.DOTALL)
_QUOTED: Final = (TokenType.IDENTIFIER, TokenType.STRING)
_DATABASE: Final = re.compile(r"^(CREATE DATABASE (?:/\*!\d+ IF NOT EXISTS\*/ |IF NOT EXISTS )?)`(?:[^`]|``)+`")
_LONGEST: Final = 64  # characters of a name (MySQL manual, "Identifier Length Limits")


@dataclass(frozen=True)
class Renames:
    """Old name -> new name. tables goes before databases."""

    databases: Mapping[str, str]
    tables: Mapping[TableName, TableName]

    def of(self, name: TableName) -> TableName:
        return self.tables.get(name) or (self.databases.get(name[0], name[0]), name[1])


def parse_renames(texts: Sequence[str], stored: Callable[[str], str] = str) -> Renames:
    """Rules like `old=new`, both databases or both `db.table`; names with dots or `=` in backticks. stored: gives a name as
    the source has it; new names stay as they are. Raises ConfigError."""
    databases: dict[str, str] = {}
    tables: dict[TableName, TableName] = {}
    for text in texts:
        match = _RULE.fullmatch(text.strip())
        if match is None or (match[2] is None) != (match[4] is None):
            raise ConfigError(
                f"`--rename {text}` is no pair of names",
                hint="Write old=new for databases or db.old=db.new for tables; a name with a dot stands in backticks.",
            )
        old_db, old, new_db, new = (None if part is None else _unquoted(part) for part in match.groups())
        for name in (new_db, new):
            _check_name(text, name)
        old_db, old = stored(old_db or ""), None if old is None else stored(old)
        if (old_db in databases) if old is None else ((old_db, old) in tables):
            raise ConfigError(f"`{match[1]}` is renamed twice", hint="Give one `--rename` for each name.")
        if old is None:
            databases[old_db] = new_db or ""
        else:
            tables[old_db, old] = (new_db or "", new or "")
    return Renames(databases, tables)


def _unquoted(part: str) -> str:
    return part[1:-1].replace("``", "`") if part.startswith("`") else part


def _check_name(rule: str, name: str | None) -> None:
    if name is not None and (not name or len(name) > _LONGEST or name.endswith(" ") or "\0" in name):
        raise ConfigError(
            f"`--rename {rule}`: `{name}` can't be a name",
            hint=f"Names have 1 to {_LONGEST} characters, no space at the end.",
        )


def renamed(plan: RestorePlan, renames: Renames) -> RestorePlan:
    """The plan under the new names. Raises UnknownTable for a rule that fits nothing, ConfigError for names that collide,
    NotComputable for a definition that can't be rewritten."""
    if not renames.databases and not renames.tables:
        return plan
    _check_rules(plan, renames)
    _check_collisions(plan, renames)
    tables = tuple(_table(t, renames) for t in plan.tables)
    objects = objects_renamed(plan.objects, Names(renames.databases, renames.tables))
    sequences = tuple(_sequence(s, renames) for s in objects.sequences)
    objects = replace(objects, sequences=sequences, passing=tuple(renames.of(name) for name in objects.passing))
    needed = {t.db for t in tables} | {o.db for o in objects.objects} | {s.db for s in sequences}
    warnings = (*plan.warnings, *_outside(plan.tables, tables, renames), *objects.warnings(plan.objects.left_out))
    events = [o.label for o in objects.objects if o.type == "event" and o.db in renames.databases.values()]
    if events:
        warnings += (f"{', '.join(events)}: run beside the originals once loaded, unless `--events-disabled` is given",)
    warnings += tuple(_in_the_way(plan, renames))
    databases = _databases(plan, renames)
    kept = tuple(sorted((db, text) for db, text in databases.items() if db in needed))
    return replace(plan, tables=tables, databases=kept, warnings=warnings, objects=objects)


def _databases(plan: RestorePlan, renames: Renames) -> dict[str, str]:
    """Name -> CREATE DATABASE. A table or sequence that moves on its own into a database that the restore doesn't have takes
    its old database's defaults along."""
    texts = dict(plan.databases)
    found = {new: _database(texts.get(old, ""), new) for old, new in renames.databases.items()}
    found |= {db: text for db, text in texts.items() if db not in renames.databases}
    for old in sorted(_names(plan)):
        db, _ = renames.of(old)
        found.setdefault(db, _database(texts.get(old[0], ""), db))
    return found


def _outside(old: Sequence[TablePlan], new: Sequence[TablePlan], renames: Renames) -> Iterator[str]:
    """A warning for each renamed table whose foreign key points to a table that isn't of the restore: loaded beside the
    original, it holds that one's rows fast."""
    names = {(t.db, t.table) for t in new}
    for before, table in zip(old, new, strict=True):
        parents = {p.table for text in table.schema for p in parents_of(text, table.db)}
        for parent in sorted(parents - names if (before.db, before.table) in renames.tables else ()):
            yield (
                f"`{table.label}` will have a foreign key to `{label(parent)}`, which isn't of this restore: loaded beside "
                "the original, rows that it refers to can't be deleted there"
            )


def _sequence(one: LiveSequence, renames: Renames) -> LiveSequence:
    db, name = renames.of((one.db, one.name))
    return replace(one, db=db, name=name)


def _in_the_way(plan: RestorePlan, renames: Renames) -> Iterator[str]:
    """A warning for sequences that keep their names though tables get others that use them or are of their database: beside
    the original, they are there already."""
    moved = [t for t in plan.tables if renames.of((t.db, t.table)) != (t.db, t.table)]
    used = {name for t in moved for text in t.schema for name in uses(text, t.db)}
    databases = {t.db for t in moved}
    names = {(s.db, s.name): s for s in plan.objects.sequences}
    kept = [s for name, s in names.items() if renames.of(name) == name and (name in used or name[0] in databases)]
    if kept:
        yield (
            f"{', '.join(s.label for s in kept)} keeps its name: beside the original the load stops there; give it another "
            "one with `--rename` as well"
        )


def _check_rules(plan: RestorePlan, renames: Renames) -> None:
    names = _names(plan)
    for db in renames.databases:
        if db not in {name[0] for name in names}:
            near = [n.removesuffix(".*") for n in near_names(f"{db}.*", names)]
            raise _unknown(f"database `{db}`", near)
    for name in renames.tables:
        if name not in names:
            raise _unknown(f"table `{label(name)}`", near_names(label(name), names))


def _unknown(what: str, near: Sequence[str]) -> UnknownTable:
    hint = f"Did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else "`--dry-run` lists what is restored."
    return UnknownTable(f"`--rename`: the restore holds no {what}", hint=hint)


def _names(plan: RestorePlan) -> set[TableName]:
    """Of what shares one name space: tables and sequences."""
    sequences = {(s.db, s.name) for s in plan.objects.sequences}
    return {(t.db, t.table) for t in plan.tables} | sequences | {*plan.objects.passing}


def _check_collisions(plan: RestorePlan, renames: Renames) -> None:
    """Names that differ only in case count as one where a rule made them: a server may fold case."""
    names = sorted(_names(plan))
    before = Counter(map(_fold, names))
    found: dict[TableName, TableName] = {}
    for old in names:
        new = renames.of(old)
        other = found.setdefault(_fold(new), old)
        if other != old and (new != old or renames.of(other) != other or before[_fold(new)] < 2):
            raise ConfigError(
                f"tables `{label(other)}` and `{label(old)}` would both be named `{label(new)}`",
                hint="Choose another `--rename`, or restore one of them with `--tables`.",
            )


def _fold(name: TableName) -> TableName:
    return name[0].casefold(), name[1].casefold()


def _database(create: str, name: str) -> str:
    return _DATABASE.sub(lambda m: m[1] + quote(name), create.strip()) if create else ""


# --- definitions ------------------------------------------------------------------------------------------------------


def _table(table: TablePlan, renames: Renames) -> TablePlan:
    old = (table.db, table.table)
    new = renames.of(old)
    unnamed = old in renames.tables
    if unnamed and len(table.schema) > 1 and any(_drops_constraint(text) for text in table.schema):
        raise _refused(old, "a later statement drops a constraint by its name, which a renamed table doesn't keep")
    try:
        schema = tuple(rewritten(text, old, renames, unnamed=unnamed) for text in table.schema)
    except (NotRewritten, SqlglotError) as error:
        raise _refused(old, str(error)) from error
    return replace(table, db=new[0], table=new[1], schema=schema)


def _refused(name: TableName, why: str) -> NotComputable:
    return NotComputable(
        f"the definition of table `{label(name)}` can't be written under its new name: {why}",
        hint=f"Leave it out with `--exclude '{label(name)}'`, or load it elsewhere without `--rename` and rename it there.",
    )


def rewritten(statement: str, name: TableName, renames: Renames, *, unnamed: bool = False) -> str:
    """A statement of table `name` (its old one) with the new names. unnamed: without its constraints' names. Raises
    NotRewritten and SqlglotError."""
    new = renames.of(name)
    text = sequences_renamed(statement, name[0], renames.of)
    if new != name:
        text = retargeted(text, new) or ""
    tokens = tokens_of(text)
    edits: list[tuple[int, int, str]] = []
    for i, token in enumerate(tokens):
        if _word(token) == "REFERENCES":
            edits += _reference(tokens, i, name, renames)
        elif (
            unnamed
            and _word(token) == "CONSTRAINT"
            and i + 2 < len(tokens)
            and _word(tokens[i + 2]) in ("FOREIGN", "CHECK")
        ):
            edits.append((token.start, tokens[i + 2].start, ""))
        elif _word(token) == "UNION" and new != name:
            raise NotRewritten("it names other tables in UNION")
    for start, end, put in reversed(edits):
        text = text[:start] + put + text[end:]
    _check_left(text, renames)
    return text


def _word(token: Token) -> str:
    return "" if token.token_type in _QUOTED else token.text.upper()


def _reference(tokens: Sequence[Token], at: int, name: TableName, renames: Renames) -> list[tuple[int, int, str]]:
    """The parent behind REFERENCES under its new name. Without a database it is in the child's."""
    full = at + 3 < len(tokens) and tokens[at + 2].token_type is TokenType.DOT
    last = tokens[at + 3 if full else at + 1]
    parent = (tokens[at + 1].text, last.text) if full else (name[0], last.text)
    new = renames.of(parent)
    if new == parent and (full or renames.of(name)[0] == name[0]):
        return []
    return [(tokens[at + 1].start, last.end + 1, quote(*new))]


def _drops_constraint(statement: str) -> bool:
    words = [_word(t) for t in tokens_of(statement)]
    pairs = list(pairwise(words))
    return ("DROP", "FOREIGN") in pairs or ("DROP", "CONSTRAINT") in pairs or ("DROP", "CHECK") in pairs


def _check_left(text: str, renames: Renames) -> None:
    """An old database's name before a dot would point into the original."""
    tokens = tokens_of(text)
    new = {*renames.databases.values(), *(name[0] for name in renames.tables.values())}
    for token, following in pairwise(tokens):
        if following.token_type is TokenType.DOT and token.text in renames.databases and token.text not in new:
            raise NotRewritten(f"it names something of database `{token.text}`")
