"""The default character sets of databases, which tables take that name none: from CREATE and ALTER DATABASE in the binlog,
and from what snapshots say. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pymysql.charset import charset_by_id, charset_by_name

from recovery.archive.actions import Ddl, Session, Snapshot
from recovery.archive.state import ArchiveState
from recovery.gtid import binlog_order
from recovery.sqlscan import scan

_MYSQL_UTF8MB4: Final = "utf8mb4_0900_ai_ci"  # since 8.0; a session's default_collation_for_utf8mb4 is in the event
_OPTIONS: Final = ("DEFAULT", "CHARACTER", "CHARSET", "COLLATE", "ENCRYPTION", "READ", "COMMENT")


def default_at(state: ArchiveState, db: str, seq: int) -> str | None:
    """A database's default character set and collation behind transaction `seq`, as a clause such as `CHARACTER SET latin1
    COLLATE latin1_bin`; None if that isn't known. Two clauses that mean the same may differ where a Unicode character set's
    own collation depends on the server."""
    flavor = state.identity.flavor if state.identity else None
    known: str | None = None
    there = False
    statements = _statements(state, db)
    snapshots = {clause for s in state.snapshots for clause in _told(s, db) if _before(s, state, statements)}
    if len(snapshots) == 1:
        (known,), there = snapshots, True
    for ddl in statements:
        if ddl.seq > seq:
            break
        if ddl.verb == "ALTER DATABASE":
            known, there = clause_of(ddl.statement) or known, True
        elif ddl.verb == "DROP DATABASE" and not _creates(ddl):
            known, there = None, False
        elif not there or not _conditional(ddl):
            known, there = clause_made(ddl), True
    return None if known is None else _spelt_out(known, flavor)


def clause_of(statement: str) -> str:
    """What CREATE DATABASE or ALTER DATABASE says behind the name of character set and collation."""
    words = list(scan(statement))
    found: list[str] = []
    for at, word in enumerate(words):
        equals = at + 1 < len(words) and words[at + 1].says("=")
        value = words[at + 2 if equals else at + 1] if at + 1 + equals < len(words) else None
        if value is None:
            break
        if (word.says("SET") and at and words[at - 1].says("CHARACTER")) or word.says("CHARSET"):
            found.append(f"CHARACTER SET {value.text}")
        elif word.says("COLLATE"):
            found.append(f"COLLATE {value.text}")
    return " ".join(found)


def clause_made(create: Ddl) -> str | None:
    """The defaults of a database that a statement made: what it says, else those of the session's server; None if they have
    a number that isn't known."""
    return clause_of(create.statement) or _of_server(create.session)


def database_of(ddl: Ddl) -> str:
    """The database that CREATE DATABASE or ALTER DATABASE is about."""
    words = list(scan(ddl.statement, ddl.session.sql_mode if ddl.session else 0))
    at = next(i for i, w in enumerate(words) if w.says("DATABASE", "SCHEMA")) + 1
    while at < len(words) and words[at].says("IF", "NOT", "EXISTS"):
        at += 1
    if at >= len(words) or words[at].says(*_OPTIONS):
        return ddl.default_db
    return words[at].text


def _spelt_out(clause: str, flavor: str | None) -> str:
    """With both the character set and the collation, where one follows from the other."""
    words = clause.split()
    if words[:1] == ["COLLATE"]:
        charset = words[1].partition("_")[0]
        return f"CHARACTER SET {charset} {clause}" if charset_by_name(charset) else clause
    if words[:2] == ["CHARACTER", "SET"] and len(words) == 3:
        collation = _own(words[2], flavor)
        return f"{clause} COLLATE {collation}" if collation else clause
    return clause


def _own(charset: str, flavor: str | None) -> str | None:
    """A character set's own collation. Not of Unicode ones on MariaDB, where it depends on the version."""
    if charset == "utf8mb4" and flavor == "mysql":
        return _MYSQL_UTF8MB4
    found: Any = None if charset.startswith("u") else charset_by_name(charset)
    return found.collation if found else None


def _of_server(session: Session | None) -> str | None:
    if session is None:
        return None
    try:
        found: Any = charset_by_id(session.server_collation)
    except KeyError:
        return None
    return f"COLLATE {found.collation}"


def _statements(state: ArchiveState, db: str) -> list[Ddl]:
    """In order; those behind a synthetic snapshot's base also where the log has them no more."""
    old = (d for s in state.snapshots if s.synthetic for d in s.synthetic.ddls)
    return sorted({d.seq: d for d in (*old, *state.database_ddls) if _about(d, db)}.values(), key=lambda d: d.seq)


def _about(ddl: Ddl, db: str) -> bool:
    if ddl.verb == "DROP DATABASE":  # MariaDB's CREATE OR REPLACE DATABASE as well
        return any(name == db for name, _ in ddl.tables or ())
    return ddl.verb in ("CREATE DATABASE", "ALTER DATABASE") and database_of(ddl) == db


def _creates(ddl: Ddl) -> bool:
    return next(scan(ddl.statement)).says("CREATE")


def _conditional(ddl: Ddl) -> bool:
    return any(w.says("EXISTS") for w in list(scan(ddl.statement))[:5])


def _told(snapshot: Snapshot, db: str) -> Iterator[str]:
    yield from (clause_of(text) for name, text in snapshot.databases if name == db)


def _before(snapshot: Snapshot, state: ArchiveState, statements: Sequence[Ddl]) -> bool:
    """Whether the snapshot says what was before the first of the statements. A synthetic one says what its base did."""
    if not statements:
        return True
    if made := snapshot.synthetic:
        return {d.seq for d in statements if d.seq <= made.seq} <= {d.seq for d in made.ddls}
    first, high = statements[0], snapshot.high
    return not state.failovers and binlog_order(high.file, high.position) <= binlog_order(first.file, first.position)
