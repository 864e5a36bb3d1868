"""An undo as the text of an SQL script: pinned session, one transaction, and an ending that depends on what happened.

Promises, proved with the servers' own clients in tests/test_undo.py:
- every statement must hit exactly one row, and leave it as it was also in the columns that it doesn't write, or the
  script ends in ROLLBACK; also under `mysql --force` or `source`, where errors don't stop a script: ROW_COUNT() is -1
  after an error (MySQL manual, "ROW_COUNT()"), and the ending is prepared from a user variable. After the first failure
  the other statements match nothing;
- it means the same under every sql_mode, time zone and character set of the client and the server, and puts the
  session's settings back;
- the last result says what happened, and after a rollback an error follows, so that a client without --force exits
  non-zero;
- comments are one printable line each, whatever the names and statements that they quote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from recovery.archive.segments import DELETE, INSERT
from recovery.conflicts import Conflict
from recovery.images import UPDATE
from recovery.literals import DIALECT, string
from recovery.quoting import quote
from recovery.seqrange import moment_text
from recovery.undo import COUNTED, COUNTED_BEFORE, FAILED, UndoScript, UndoStatement

# Strict, so that a value that no longer fits is an error; zero and partial dates are allowed, 0 is stored in an
# AUTO_INCREMENT column as it is.
STRICT_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"
LOOSE_MODE = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"
LISTED = 50  # transactions and conflicts named in the head; more are counted

_PINNED = (
    ("sql_mode", f"'{STRICT_MODE}'"),
    ("time_zone", "'+00:00'"),
    ("foreign_key_checks", "1"),
    ("unique_checks", "1"),
    ("sql_safe_updates", "0"),
)
_CHARSETS = ("character_set_client", "character_set_results", "collation_connection")


def script_sql(script: UndoScript) -> str:
    """The whole script, with a final line feed. Without statements it is comments alone."""
    return "\n".join(_lines(script)) + "\n"


def comment(text: str) -> str:
    """One comment line that nothing in `text` can end: unprintable characters become `?`."""
    return "-- " + "".join(c if c.isprintable() else "?" for c in text)


def _lines(script: UndoScript) -> Iterator[str]:
    yield from _head(script)
    if not script.statements:
        yield comment("There is nothing to undo.")
        return
    yield ""
    yield from _pin()
    yield "START TRANSACTION;"
    yield f"SET @{FAILED} = 0, @rowback_done = 0, @rowback_ended = NULL;"
    # One generator for the script, and no copies: the trees are only read, nothing in the dialect rewrites what they hold.
    sql = partial(Dialect.get_or_raise(DIALECT).generator().generate, copy=False)
    seq = None
    for statement in script.statements:
        if statement.change.seq != seq:
            seq = statement.change.seq
            yield ""
            yield comment(_transaction(seq, statement.change.gtid, statement.change.committed_at_us))
        yield from _statement(statement, sql)
    yield ""
    yield from _ending(script)


def _head(script: UndoScript) -> Iterator[str]:
    summary = script.summary
    yield comment(f"Rowback undo of {quote(*script.query.table)}")
    parts = [
        _count(number, op)
        for number, op in ((summary.inserts, INSERT), (summary.updates, UPDATE), (summary.deletes, DELETE))
        if number
    ]
    kinds = f" ({', '.join(parts)})" if parts else ""
    yield comment(
        f"Takes back {_count(summary.changes, 'change')}{kinds} of {_count(len(summary.transactions), 'transaction')}, "
        "newest first:"
    )
    for t in summary.transactions[:LISTED]:
        who = "" if t.connection_id is None else f", connection {t.connection_id}"
        yield comment(f"  {_transaction(t.seq, t.gtid, t.committed_at_us)}{who}: {_count(t.changes, 'change')}")
    if len(summary.transactions) > LISTED:
        yield comment(f"  and {len(summary.transactions) - LISTED} more")
    yield comment("It commits only if every statement changes exactly one row; otherwise it rolls back and says so.")
    yield comment(
        "Apply it in a session without an open transaction. Triggers of the table fire for its statements too."
    )
    if script.known_to_us is not None:
        known = moment_text(script.known_to_us)
        yield comment(f"Known up to {known} UTC; what the source did after that is not in this script.")
    unwritten = dict.fromkeys(name for s in script.statements for name in s.unwritten)
    if unwritten:
        names = ", ".join(quote(name) for name in unwritten)
        yield comment(f"Generated columns ({names}) are left to the server; after each statement the row is checked.")
    if script.truncated:
        yield comment("NOTE: the limit left older changes out.")
    for warning in script.warnings:
        yield comment(f"WARNING: {warning}")
    yield from _conflicts(script.conflicts)


def _conflicts(conflicts: tuple[Conflict, ...]) -> Iterator[str]:
    blocking = sum(c.blocking for c in conflicts)
    if not conflicts:
        return
    yield comment(
        f"CHANGED AGAIN LATER: {_count(len(conflicts), 'change')}, {blocking} of them in what this script looks at"
        + (" (expect a rollback):" if blocking else ":")
    )
    for conflict in conflicts[:LISTED]:
        change = conflict.change
        key = ", ".join("NULL" if part is None else part[:60] for part in conflict.key[:8])
        what = f"{change.op} of {', '.join(change.changed)}" if change.changed else change.op
        where = _transaction(change.seq, change.gtid, change.committed_at_us)
        yield comment(f"  key {key}: {what} by {where}{'' if conflict.blocking else ' (not in the way)'}")
    if len(conflicts) > LISTED:
        yield comment(f"  and {len(conflicts) - LISTED} more")


def _transaction(seq: int, gtid: str | None, committed_at_us: int) -> str:
    return f"transaction seq {seq}{f', GTID {gtid}' if gtid else ''}, committed {moment_text(committed_at_us)} UTC"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _pin() -> Iterator[str]:
    """Keep the session's settings in user variables, then set ours."""
    names = [name for name, _ in _PINNED] + list(_CHARSETS)
    yield f"SET {', '.join(f'@rowback_{name} = @@SESSION.{name}' for name in names)};"
    yield "SET NAMES utf8mb4;"
    yield f"SET {', '.join(f'SESSION {name} = {value}' for name, value in _PINNED)};"


def _statement(statement: UndoStatement, sql: Callable[[exp.Expression], str]) -> Iterator[str]:
    if statement.loose:
        yield f"SET SESSION sql_mode = '{LOOSE_MODE}';"
    table = statement.change.table
    # Not one tree: for sqlglot SELECT .. INTO creates a table.
    rows = f"FROM {quote(table.db, table.name)} {sql(statement.check).strip()}" if statement.check else ""
    twins = rows and not table.key
    if twins:
        yield f"SET @{COUNTED_BEFORE} = NULL;"
        yield f"SELECT COUNT(*) INTO @{COUNTED_BEFORE} {rows};"
    yield f"{sql(statement.expression)};"
    yield f"SET @{FAILED} = @{FAILED} + (ROW_COUNT() <> 1), @rowback_done = @rowback_done + 1;"
    if rows:
        # NULL fails for good, should the count end in an error.
        yield f"SET @{COUNTED} = NULL;"
        yield f"SELECT COUNT(*) INTO @{COUNTED} {rows};"
        wanted = f"@{COUNTED_BEFORE} + 1" if twins else "1"
        yield f"SET @{FAILED} = @{FAILED} + (@{COUNTED} <> {wanted});"
    if statement.loose:
        yield f"SET SESSION sql_mode = '{STRICT_MODE}';"


def _ending(script: UndoScript) -> Iterator[str]:
    total = len(script.statements)
    yield f"SET @rowback_good = (@{FAILED} <=> 0 AND @rowback_done <=> {total});"
    yield "SET @rowback_sql = IF(@rowback_good, 'COMMIT', 'ROLLBACK');"
    yield "PREPARE rowback_end FROM @rowback_sql;"
    yield "EXECUTE rowback_end;"
    # 0 after a COMMIT, -1 after one that failed, NULL in another session than the one that began.
    yield "SET @rowback_ended = ROW_COUNT() + 0 * @rowback_done;"
    yield "DEALLOCATE PREPARE rowback_end;"
    names = [name for name, _ in _PINNED] + list(_CHARSETS)
    yield f"SET {', '.join(f'SESSION {name} = @rowback_{name}' for name in names)};"
    yield (
        "SELECT CASE "
        f"WHEN @rowback_good AND @rowback_ended = 0 THEN 'rowback: committed, {_count(total, 'change')} undone' "
        f"WHEN @rowback_ended = 0 THEN 'rowback: rolled back, nothing was changed' "
        "ELSE 'rowback: the outcome is not known, look at the rows' END AS outcome;"
    )
    # A table that isn't there: SIGNAL can't be prepared.
    missing = quote(script.query.table[0], "rowback: not committed")
    failing = string(f"SELECT 1 FROM {missing}").sql(dialect=DIALECT)
    yield f"SET @rowback_sql = IF(@rowback_good AND @rowback_ended = 0, 'DO 0', {failing});"
    yield "PREPARE rowback_end FROM @rowback_sql;"
    yield "DEALLOCATE PREPARE rowback_end;"
