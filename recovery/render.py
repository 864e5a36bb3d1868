"""Change history as text: a table for people, JSON, JSON lines and CSV. Pure functions of a ChangesResult.

The JSON form is a contract; one object per change with these keys:

    seq, ordinal      integers; the change's place in the archive
    gtid              string or null
    committed_at      "2026-05-02T10:00:00.123456Z"; what the server logged
    cut_at            the same form; what time targets go by
    binlog_file, binlog_position, connection_id (integer or null)
    op                "insert" | "update" | "delete"
    key               object of the key columns after the change (before it, for a delete); null without a primary key
    before, after     object of all columns, or null
    changed           array of column names; empty for inserts and deletes
    invalid_enums     object: "before" and "after", each an array of the ENUM columns whose "" is the invalid value
                      (index 0) and no label
    raw_texts         the same of the text columns whose "0x.." is stored bytes that have no text in their character set

Values: integers, BIT, YEAR and finite FLOAT/DOUBLE as JSON numbers; binary, GEOMETRY and VECTOR as "0x.." in upper-case
hex; everything else as the text that SELECT prints (DECIMAL, times, JSON documents, zero dates), NULL as null.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from recovery.changes import ChangesResult
from recovery.images import Change, Image
from recovery.literals import text_of
from recovery.schema import INTEGER_BITS, TEXT_TYPES, Column
from recovery.seqrange import known_text, moment_text

if TYPE_CHECKING:
    from recovery.restore import RestoreResult  # a restore's modules, which the changes of a table don't need

_NUMBERS = frozenset(INTEGER_BITS) | {"bit", "year", "float", "double"}
_ENUM = frozenset({"enum"})
_CSV_HEADER = (
    "seq", "ordinal", "gtid", "committed_at", "cut_at", "binlog_file", "binlog_position", "connection_id", "op", "key",
    "column", "changed", "before", "after",
)  # fmt: skip


def change_to_json(change: Change) -> dict[str, Any]:
    """The documented object of one change."""
    values = _image_to_json(change.image)
    return {
        "seq": change.seq,
        "ordinal": change.ordinal,
        "gtid": change.gtid,
        "committed_at": _iso(change.committed_at_us),
        "cut_at": _iso(change.cut_at_us),
        "binlog_file": change.binlog_file,
        "binlog_position": change.binlog_pos,
        "connection_id": change.connection_id,
        "op": change.op,
        "key": {name: values[name] for name in change.table.key} if change.table.key else None,
        "before": _image_to_json(change.before) if change.before else None,
        "after": _image_to_json(change.after) if change.after else None,
        "changed": list(change.changed),
        "invalid_enums": {"before": _exact_of(change.before, _ENUM), "after": _exact_of(change.after, _ENUM)},
        "raw_texts": {"before": _exact_of(change.before, TEXT_TYPES), "after": _exact_of(change.after, TEXT_TYPES)},
    }


def changes_json(result: ChangesResult) -> str:
    """{"table", "truncated", "known_to", "warnings", "changes": [...]} with a final line feed. known_to: everything that
    was committed up to then is known; null before anything is."""
    document = {
        "table": ".".join(result.query.table),
        "truncated": result.truncated,
        "known_to": iso_us(result.known_to_us),
        "warnings": list(result.warnings),
        "changes": [change_to_json(c) for c in result.changes],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def restore_document(result: RestoreResult) -> dict[str, Any]:
    """A restore's result as plain data: the plan, each table with its files, the other files, totals."""
    return {
        "dry_run": result.output is None,
        "plan": result.plan.to_json(),
        "output": result.output,
        "rows": result.rows,
        "size_bytes": sum(f.size_bytes for t in result.tables for f in t.files),
        "tables": [t.to_json() for t in result.tables],
        "resumed": list(result.resumed),
        "files": [f.to_json() for f in result.files],
    }


def changes_jsonl(result: ChangesResult) -> str:
    """One change per line."""
    return "".join(json.dumps(change_to_json(c), ensure_ascii=False) + "\n" for c in result.changes)


def changes_csv(result: ChangesResult) -> str:
    """One line per change and column (before and after as text; NULL is `\\N`, a missing image is empty), with a
    header. Lines end in CRLF (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_CSV_HEADER)
    for change in result.changes:
        head = (
            change.seq,
            change.ordinal,
            change.gtid or "",
            _iso(change.committed_at_us),
            _iso(change.cut_at_us),
            change.binlog_file,
            change.binlog_pos,
            "" if change.connection_id is None else change.connection_id,
            change.op,
            _key_text(change),
        )
        for name, before, after in _cells(change):
            changed = int(not change.changed or name in change.changed)
            writer.writerow((*head, name, changed, _null(before, change.before), _null(after, change.after)))
    return out.getvalue()


def changes_table(result: ChangesResult, width: int = 120, *, color: bool = False) -> str:
    """For a terminal: one row per change, in it the cells that matter (of an update, the changed ones)."""
    table = RichTable(title=Text(f"changes of {'.'.join(result.query.table)}"), title_justify="left", show_lines=True)
    for heading in ("committed (UTC)", "seq", "op", "key", "change", "transaction"):
        table.add_column(heading, overflow="fold")
    for change in result.changes:
        who = "" if change.connection_id is None else f"\nconnection {change.connection_id}"
        where = f"{change.gtid or ''}\n{change.binlog_file}:{change.binlog_pos}{who}".strip()
        row = (
            moment_text(change.committed_at_us),
            str(change.seq),
            change.op,
            _printable(_key_text(change)),
            "\n".join(_cell_lines(change)),
            where,
        )
        table.add_row(*(Text(cell) for cell in row))
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=color, no_color=not color)
    console.print(table)
    if result.truncated:
        console.print(Text(f"More changes match; the limit of {result.query.limit} left them out."))
    for warning in result.warnings:
        console.print(Text(f"Warning: {warning}"))
    console.print(Text(known_line(result)))
    return out.getvalue()


def known_line(result: ChangesResult) -> str:
    """How far the answer reaches, as a sentence."""
    known = known_text(result.known_to_us, result.query.asked_at_us)
    nothing = "" if result.changes else "No change matches. "
    return f"{nothing}{known[0].upper()}{known[1:]}."


def iso_us(at_us: int | None) -> str | None:
    return None if at_us is None else _iso(at_us)


def _cell_lines(change: Change) -> Iterator[str]:
    for name, before, after in _cells(change):
        if change.before and change.after:
            if name in change.changed:
                yield _printable(f"{name}: {_shown(before)} -> {_shown(after)}")
        else:
            yield _printable(f"{name}: {_shown(after if change.after else before)}")


def _cells(change: Change) -> Iterator[tuple[str, str | None, str | None]]:
    names = [column.name for column in change.table.columns]
    before = _texts(change.before) if change.before else (None,) * len(names)
    after = _texts(change.after) if change.after else (None,) * len(names)
    return zip(names, before, after, strict=True)


def _texts(image: Image) -> tuple[str | None, ...]:
    return tuple(_text(c, v, image.exact.get(c.name)) for c, v in zip(image.table.columns, image.values, strict=True))


def _text(column: Column, value: object, exact: str | None) -> str | None:
    """As SELECT prints it: an ENUM's invalid value, kept as its index, is empty."""
    return "" if column.type == "enum" and exact is not None else text_of(column, value, exact)


def _exact_of(image: Image | None, kinds: frozenset[str]) -> list[str]:
    """The columns of these types that have an exact text."""
    if image is None or not image.exact:
        return []
    return [c.name for c in image.table.columns if c.type in kinds and c.name in image.exact]


def _shown(text: str | None) -> str:
    return "NULL" if text is None else text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def _printable(text: str) -> str:
    """Nothing that a terminal could take for a command."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _null(text: str | None, image: Image | None) -> str:
    if image is None:
        return ""
    return "\\N" if text is None else text


def _key_text(change: Change) -> str:
    if not change.table.key:
        return ""
    return ",".join("NULL" if part is None else part for part in change.image.key())


def _image_to_json(image: Image) -> dict[str, Any]:
    cells = zip(image.table.columns, image.values, strict=True)
    return {
        column.name: value
        if column.type in _NUMBERS and column.name not in image.exact and column.type != "float"
        else _float_or_text(column.type, _text(column, value, image.exact.get(column.name)))
        for column, value in cells
    }


def _float_or_text(kind: str, text: str | None) -> float | str | None:
    return float(text) if kind == "float" and text is not None else text


def _iso(at_us: int) -> str:
    return moment_text(at_us).replace(" ", "T") + "Z"
