"""What of a restore is finished: rowback-progress.jsonl in the directory that is being written, for `--resume`.

The first line says what is restored and how, each further one names a finished table (or another finished part) with its
files and their SHA-256. A line is written when its files are durable, so a kill at any moment leaves at worst the files of
one unfinished table, which are removed. Promises: nothing is taken as finished whose files haven't the bytes that were
written, or whose rows would come from another snapshot now; another target, other tables or options are refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from recovery.errors import ConfigError
from recovery.output.files import FileRecord, spoilt, sync

NAME: Final = "rowback-progress.jsonl"
FORMAT: Final = 1
_COMPARED: Final = {
    "server": "server",
    "target": "target",
    "tables": "choice of tables",
    "except": "transactions left out",
    "rename": "renames",
    "options": "options",
    "format": "version of Rowback",
}


def header_of(directory: Path) -> dict[str, Any] | None:
    """What a restore that was interrupted there was for; None if it hadn't begun to write."""
    lines = _lines(directory)
    return lines[0] if lines else None


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], directory: Path) -> None:
    """Raises ConfigError if the interrupted restore was another one."""
    other = [
        f"{what} was {_shown(old.get(k))} and is {_shown(new.get(k))}"
        for k, what in _COMPARED.items()
        if old.get(k) != new.get(k)
    ]
    if other:
        raise ConfigError(
            f"the restore in `{directory}` was another one: its {'; its '.join(other)}",
            hint="Resume with the same target, tables and options, or remove the directory and begin anew.",
        )


def _shown(value: object) -> str:
    return f"`{value}`" if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Journal:
    """Of one running restore. Opening it removes what no finished part owns."""

    def __init__(self, directory: Path, header: Mapping[str, Any]) -> None:
        self._directory = directory
        self._path = directory / NAME
        lines = _lines(directory)
        self._parts: dict[str, dict[str, Any]] = {line["part"]: line for line in lines[1:]}
        if not lines:
            self._path.unlink(missing_ok=True)
            self._append(dict(header))
        self.tidy()

    def tidy(self) -> None:
        """Remove the files that no finished part owns."""
        owned = {self._path} | {self._directory / f["name"] for part in self._parts.values() for f in part["files"]}
        for path in sorted(self._directory.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in owned:
                path.unlink()

    def finished(self, part: str, facts: Mapping[str, Any], note: Callable[[str], None]) -> dict[str, Any] | None:
        """The result of a part that is finished and unharmed; facts: what it must have been made from. note: told why it is
        made again."""
        found = self._parts.get(part)
        if found is None:
            return None
        why = None if found["facts"] == dict(facts) else "its rows would come from another snapshot now"
        for record in found["files"]:
            why = why or spoilt(self._directory, FileRecord.from_json(record))
        if why is None:
            result: dict[str, Any] = found["result"]
            return result
        note(f"{part} is written again: {why}")
        del self._parts[part]
        self._rewrite()
        for record in found["files"]:
            (self._directory / record["name"]).unlink(missing_ok=True)
        return None

    def record(self, part: str, facts: Mapping[str, Any], files: list[FileRecord], result: Mapping[str, Any]) -> None:
        """The part is finished. Its files are made durable first."""
        for file in files:
            sync(self._directory / file.name)
        for folder in {(self._directory / file.name).parent for file in files} | {self._directory}:
            sync(folder)
        line = {"part": part, "facts": dict(facts), "files": [f.to_json() for f in files], "result": dict(result)}
        self._parts[part] = line
        self._append(line)

    def close(self) -> None:
        """The restore is whole: there is nothing to go on with."""
        self._path.unlink()

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _rewrite(self) -> None:
        """Without the parts that don't count any more."""
        header = _lines(self._directory)[0]
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            for line in (header, *self._parts.values()):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        sync(self._directory)


def _lines(directory: Path) -> list[dict[str, Any]]:
    """Whole lines; what follows a torn one was never promised."""
    found: list[dict[str, Any]] = []
    try:
        text = (directory / NAME).read_bytes()
    except FileNotFoundError:
        return []
    for line in text.split(b"\n")[:-1]:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
