"""The dump directory in the archive: every file as mydumper wrote it, and `manifest.json` as the last object.

A directory without a manifest is not a backup: the upload was cut off. docs/FORMAT.md describes the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from recovery.archive.names import Layout
from recovery.archive.store import Store
from recovery.snapshot.baseline import file_digest
from recovery.snapshot.request import Progress, Report

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class DumpFile:
    name: str
    size_bytes: int
    sha256: str


def free_prefix(store: Store, layout: Layout, started_at: datetime) -> str:
    """The prefix of the dump directory: the start's second, or the next one that no other snapshot has taken."""
    while next(iter(store.list(layout.backup(started_at))), None) is not None:
        started_at += timedelta(seconds=1)
    return layout.backup(started_at)


def upload_directory(store: Store, prefix: str, folder: Path, progress: Report) -> tuple[DumpFile, ...]:
    """Upload all files of a finished dump under `prefix`, by name, with their digests. Idempotent."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    total = sum(p.stat().st_size for p in paths)
    files: list[DumpFile] = []
    done = 0
    for path in paths:
        name = path.relative_to(folder).as_posix()
        digest, size = file_digest(path), path.stat().st_size
        store.upload(prefix + name, path)
        files.append(DumpFile(name, size, digest))
        done += size
        progress(Progress("upload", bytes_done=done, bytes_total=total))
    return tuple(files)


def put_manifest(store: Store, prefix: str, files: Sequence[DumpFile], facts: dict[str, Any]) -> int:
    """Write the manifest; the bytes of the whole directory."""
    body = {"format": 1, **facts, "files": [asdict(file) for file in files]}
    text = json.dumps(body, ensure_ascii=False, indent=2, sort_keys=True).encode()
    store.put(prefix + MANIFEST, text)
    return sum(file.size_bytes for file in files) + len(text)
