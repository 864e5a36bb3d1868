"""Names and sizes: every object that the log names is there, and what else lies beside them.

Judged by the log as it is at the end of the listing: capture, compaction and the sweep may go on meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from recovery.archive.actions import Snapshot
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.archive.sweeping import named_paths
from recovery.errors import ArchiveError, ObjectNotFound
from recovery.verify_report import Findings, Tally

File: TypeAlias = tuple[str, int, str]  # name below the dump directory, bytes, SHA-256
_FOLDERS = ("changes/", "transactions/", "pending/", "baselines/", "probe/")


@dataclass
class Names:
    """objects, size_bytes: of what the log names. missing: keys. dumps: the files of each snapshot's directory, by its
    prefix, where the manifest can be read."""

    objects: int = 0
    size_bytes: int = 0
    orphans: Tally = field(default_factory=Tally)
    removed: Tally = field(default_factory=Tally)
    missing: set[str] = field(default_factory=set)
    dumps: dict[str, list[File]] = field(default_factory=dict)


def check_names(
    store: Store,
    layout: Layout,
    log: Log,
    state: ArchiveState,
    findings: Findings,
    on_object: Callable[[int, int], None],
) -> Names:
    """on_object: told (objects seen, objects named) now and then."""
    names = Names()
    expected = _expected(state)
    names.objects, names.size_bytes = len(expected), sum(expected.values())
    unnamed: list[tuple[str, int]] = []
    done = 0
    for folder in _FOLDERS:
        for info in store.list(layout.prefix + folder):
            done += 1
            if done % 1000 == 0:
                on_object(done, names.objects)
            size = expected.pop(info.key, None)
            if size is None:
                unnamed.append((info.key, info.size_bytes))
            elif size != info.size_bytes:
                findings.add(info.key, f"has {info.size_bytes} bytes, and the log says {size}")
    for snapshot in state.snapshots:
        if snapshot.synthetic is None:
            _dump_sizes(store, snapshot, names, findings)
    _settle(log, state, expected, unnamed, names, findings)
    return names


def _expected(state: ArchiveState) -> dict[str, int]:
    """The size of each object that counts."""
    expected = {s.path: s.size_bytes for s in state.segments}
    expected |= {t.path: t.size_bytes for t in state.transactions}
    expected |= {o.path: o.size_bytes for snapshot in state.snapshots for b in snapshot.baselines for o in b.objects}
    expected |= {d.path: d.size_bytes for s in state.snapshots if (d := s.definitions)}
    return expected | {o.path: o.size_bytes for pending in state.pending for o in pending.objects}


def _settle(
    log: Log,
    state: ArchiveState,
    missing: Iterable[str],
    unnamed: Iterable[tuple[str, int]],
    names: Names,
    findings: Findings,
) -> None:
    try:
        later = log.read(state if state.version else None)
    except ArchiveError:
        later = state  # told already
    live, removed = named_paths(later), {r.path for r in later.removed}
    for path in missing:
        names.missing.add(path)
        if path in live:
            findings.add(path, "is missing")
    for path, size in unnamed:
        if path in removed:
            names.removed.add(path, size)
        elif path not in live:
            names.orphans.add(path, size)


def _dump_sizes(store: Store, snapshot: Snapshot, names: Names, findings: Findings) -> None:
    files = _manifest(store, snapshot, findings)
    if files is None:
        return
    names.dumps[snapshot.path] = files
    found = {info.key.removeprefix(snapshot.path): info.size_bytes for info in store.list(snapshot.path)}
    names.objects += len(files) + 1
    names.size_bytes += sum(size for _, size, _ in files)
    for name, size, _ in files:
        if name not in found:
            names.missing.add(snapshot.path + name)
            findings.add(snapshot.path + name, "is missing")
        elif found[name] != size:
            findings.add(snapshot.path + name, f"has {found[name]} bytes, and the manifest says {size}")


def _manifest(store: Store, snapshot: Snapshot, findings: Findings) -> list[File] | None:
    name = f"{snapshot.path}manifest.json"
    try:
        files = json.loads(store.get(name))["files"]
        return [(str(f["name"]), int(f["size_bytes"]), str(f["sha256"])) for f in files]
    except ObjectNotFound:
        findings.add(name, "is missing")
    except (ValueError, KeyError, TypeError) as error:
        findings.add(name, f"is no manifest: {type(error).__name__}")
    return None
