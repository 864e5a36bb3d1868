"""A finished dump directory: which files hold a table's rows, and how many rows mydumper says there are.

0.10 names data files `db.table.sql` (or `db.table.00000.sql`) and counts nothing. 1.x numbers each file, replaces names
that it finds odd by `mydumper_N`, and maps them back, with row counts, in the ini-like `metadata`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recovery.errors import DumperFailed
from recovery.schema import Table
from recovery.snapshot.baseline import BaselineWriter
from recovery.snapshot.dumpfile import read_chunks

_SECTION: Final = re.compile(r"^\[`(.+)`\.`(.+)`\]$")
_ENDING: Final = r"(?:\.\d{5,})*\.sql(?:\.gz|\.zst)?"


@dataclass(frozen=True)
class TableEntry:
    """A table's section in a 1.x metadata file."""

    file_name: str
    rows: int


def parse_metadata(text: str) -> dict[tuple[str, str], TableEntry] | None:
    """(database, table) -> entry, of a 1.x metadata file; None for the format of 0.10, which lists no tables."""
    if not re.search(r"^\[config\]$", text, re.MULTILINE):
        return None
    found: dict[tuple[str, str], TableEntry] = {}
    section: tuple[str, str] | None = None
    values: dict[str, str] = {}

    def close() -> None:
        if section is not None and "real_table_name" in values:
            entry = TableEntry(f"{section[0]}.{section[1]}", int(values.get("rows", "-1")))
            found[(section[0], values["real_table_name"])] = entry

    for line in text.splitlines():
        if line.startswith("["):
            close()
            match = _SECTION.match(line)
            section, values = ((match[1], match[2]) if match else None), {}
        elif "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            values[name.strip()] = value.strip()
    close()
    return found


class DumpDirectory:
    """The files of one dump."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = sorted(p.name for p in folder.iterdir())
        metadata = folder / "metadata"
        text = metadata.read_text(encoding="utf-8", errors="replace") if metadata.is_file() else ""
        self._entries = parse_metadata(text)

    def load(self, table: Table, writer: BaselineWriter) -> None:
        """Parse a table's data files into its baseline. Raises DumperFailed if mydumper didn't dump the table, or the
        files don't hold as many rows as it says."""
        prefix, expected = self._expected(table)
        if not any(re.fullmatch(re.escape(prefix) + r"-schema\.sql(\.gz|\.zst)?", name) for name in self._names):
            raise _failed(table, "is missing from the dump")
        names = [c.name for c in table.columns]
        for path in self._files(prefix):
            for chunk in read_chunks(path, table.name, len(names)):
                writer.write(chunk.columns or names, chunk.values)
        if expected is not None and writer.rows != expected:
            raise _failed(table, f"has {writer.rows} rows in its files, and {expected} by mydumper's own count")

    def _expected(self, table: Table) -> tuple[str, int | None]:
        if self._entries is None:
            return f"{table.db}.{table.name}", None
        entry = self._entries.get((table.db, table.name))
        if entry is None:
            raise _failed(table, "is missing from the dump's metadata")
        return entry.file_name, entry.rows if entry.rows >= 0 else None

    def _files(self, prefix: str) -> Iterator[Path]:
        pattern = re.compile(re.escape(prefix) + _ENDING)
        return (self._folder / name for name in self._names if pattern.fullmatch(name))


def _failed(table: Table, what: str) -> DumperFailed:
    return DumperFailed(
        f"table `{table.label}` {what}",
        hint="Take the snapshot again; if it recurs, exclude the table and report it with mydumper's version.",
    )
