"""Files of a restore: written once, front to back, with their size and SHA-256 counted on the way."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa


@dataclass(frozen=True)
class FileRecord:
    """name: below the output directory, with `/`. rows: None for files that hold no rows of a table."""

    name: str
    size_bytes: int
    sha256: str
    rows: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if v is not None}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FileRecord:
        return FileRecord(data["name"], data["size_bytes"], data["sha256"], data.get("rows"))


@dataclass(frozen=True)
class TableFiles:
    """What was written for a table. files: data files, in order. columns: of those files, in their order. definition: files
    that create and load it. digest, digest_sql: see recovery/output/digest.py."""

    db: str
    table: str
    rows: int
    size_bytes: int
    files: tuple[FileRecord, ...]
    columns: tuple[str, ...] = ()
    digest: str = ""
    digest_sql: str = ""
    definition: tuple[FileRecord, ...] = ()

    def to_json(self) -> dict[str, Any]:
        lists = {
            "columns": list(self.columns),
            "files": [f.to_json() for f in self.files],
            "definition": [f.to_json() for f in self.definition],
        }
        return {k: lists.get(k, v) for k, v in self.__dict__.items()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TableFiles:
        fields = {**data, "columns": tuple(data["columns"])}
        for name in ("files", "definition"):
            fields[name] = tuple(FileRecord.from_json(f) for f in data[name])
        return TableFiles(**fields)


class Written(Protocol):
    """Told while a table is written: rows and bytes so far."""

    def __call__(self, rows: int, size_bytes: int) -> None: ...


def unheard(rows: int, size_bytes: int) -> None:
    """For writers that nobody watches."""


class _Counted(io.RawIOBase):
    """A new file that counts what it takes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("xb", buffering=0)
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        at = 0
        while at < len(view):
            at += self._file.write(view[at:]) or 0
        self._digest.update(view)
        self.size_bytes += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size_bytes

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class Sink:
    """A new file below `directory`, compressed if `codec` says so. `put` takes bytes, `end` closes it and describes it."""

    def __init__(self, directory: Path, name: str, codec: str = "none") -> None:
        self.name = name
        self.put_bytes = 0  # before compression
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        self._file = _Counted(path)
        self._out: Any = io.BufferedWriter(self._file, 1024 * 1024)
        if codec != "none":
            self._out = pa.CompressedOutputStream(pa.PythonFile(self._out, "w"), codec)

    @property
    def raw(self) -> Any:
        """For writers that bring their own structure (Parquet)."""
        return self._out

    def put(self, data: bytes) -> None:
        self._out.write(data)
        self.put_bytes += len(data)

    def end(self, rows: int | None = None) -> FileRecord:
        self.close()
        return FileRecord(self.name, self._file.size_bytes, self._file.sha256, rows)

    def close(self) -> None:
        self._out.close()
        self._file.close()


def write_text(directory: Path, name: str, text: str) -> FileRecord:
    """A small file as a whole; one of that name is replaced."""
    raw = text.encode()
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    return FileRecord(name, len(raw), hashlib.sha256(raw).hexdigest())


def described(directory: Path, name: str, rows: int | None = None) -> FileRecord:
    """The record of a file as it is now. Raises OSError."""
    path = directory / name
    with path.open("rb") as file:
        return FileRecord(name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest(), rows)


def spoilt(directory: Path, record: FileRecord) -> str | None:
    """Why a file isn't what was written; None if it is."""
    try:
        now = described(directory, record.name, record.rows)
    except OSError as error:
        return f"`{record.name}` can't be read: {error.strerror}"
    return None if now == record else f"`{record.name}` doesn't have the bytes that were written"


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
