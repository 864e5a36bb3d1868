"""`rowback verify --archive`: proof from the bucket alone that an archive is what its log says.

    log           every version follows its predecessor by hash and keeps the invariants; every index equals the fold
    objects       every object that the log names is there with its recorded size
    transactions  seqs without hole or overlap, no GTID twice, each checkpoint's GTIDs the sum of the transactions before it
    changes       every change segment has its recorded bytes, and holds the rows, ranges and keys that the log says
    baselines     the same of snapshots' baselines; the files of the dump directories have the bytes of their manifest

Promises: nothing is written; a finding names its object and never stops the rest; memory holds the log's state and a few
objects at a time, however large the archive. `quick` looks at the log and at sizes only. What it can't prove: that someone
who can rewrite the whole bucket didn't.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from recovery.archive.actions import DataObject, PendingObject, Segment, Snapshot
from recovery.archive.definitions import check_definitions
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.rebuild import base_of
from recovery.archive.segments import read_segment, read_transactions, read_verified
from recovery.archive.state import EMPTY, ArchiveState
from recovery.archive.store import Store
from recovery.errors import ArchiveError, ObjectNotFound
from recovery.schema import Table
from recovery.verify_gtids import GtidAccount
from recovery.verify_names import Names, check_names
from recovery.verify_objects import check_baseline, check_pending, check_segment, check_transactions
from recovery.verify_report import ArchiveReport, Findings

T = TypeVar("T")
Progress: TypeAlias = Callable[[str, int, int], None]  # phase, done, total (0: not known)
_AHEAD: Final = 4  # objects read ahead of the one that is checked
_THREADS: Final = 3
_IN_MEMORY: Final = 64 * 1024 * 1024  # larger files of a dump directory are hashed from disk


def silent(phase: str, done: int, total: int) -> None:
    """Progress for callers that show none."""


def verify_archive(
    store: Store, layout: Layout, log: Log, *, quick: bool = False, progress: Progress = silent
) -> ArchiveReport:
    """Check the whole archive of one server. Raises StoreError if the store can't be read; damage is in the result."""
    return _Verification(store, layout, log, quick, progress).run()


class _Verification:
    def __init__(self, store: Store, layout: Layout, log: Log, quick: bool, progress: Progress) -> None:
        self._store, self._layout, self._log = store, layout, log
        self._quick, self._progress = quick, progress
        self._findings = Findings()
        self._find = self._findings.add
        self._names = Names()
        self._indexes = 0

    def run(self) -> ArchiveReport:
        first = self._log.oldest()
        state = self._fold(first)
        self._names = check_names(
            self._store, self._layout, self._log, state, self._findings, lambda *n: self._progress("objects", *n)
        )
        gtids = changes = None
        if not self._quick:
            gtids, counted = self._transactions(state)
            changes = self._changes(state)
            if counted is not None and changes is not None and counted != changes:
                name = f"{self._layout.prefix}transactions/"
                self._find(name, f"its rows count {counted} row changes, and the change segments hold {changes}")
            self._pending(state)
            self._baselines(state)
        return ArchiveReport(
            server=self._layout.server,
            archive=self._store.url,
            quick=self._quick,
            first_version=first,
            last_version=state.version,
            indexes=self._indexes,
            transactions=sum(t.rows for t in state.transactions),
            gtids=gtids,
            row_changes=changes,
            snapshots=len(state.snapshots),
            objects=self._names.objects,
            size_bytes=self._names.size_bytes,
            orphans=self._names.orphans.frozen(),
            removed=self._names.removed.frozen(),
            findings=tuple(self._findings.found),
            truncated=self._findings.truncated,
        )

    # --- the log ------------------------------------------------------------------------------------------------------

    def _fold(self, first: int) -> ArchiveState:
        """The state at the head, from the log alone. After damage, the state that readers still get, or the last whole
        one."""
        self._strays(first)
        versions, newest = set(self._log.index.versions()), self._log.newest()
        state = EMPTY
        try:
            state = base = base_of(self._log)
            for _, state in self._log.walk(base):
                if state.version in versions:
                    self._index(state)
                if state.version % 100 == 0:
                    self._progress("log", state.version, newest)
        except ArchiveError as error:
            self._find(self._layout.log_version(state.version + 1), error.message)
            try:
                return self._log.read()
            except ArchiveError:
                return state
        for version in sorted(versions):
            if version > state.version:
                self._find(self._layout.index(version), "is newer than the log, whose newest versions are missing")
        return state

    def _strays(self, first: int) -> None:
        """Log objects before the oldest version from which on the log is whole."""
        keys = (info.key for info in self._store.list(self._layout.log_prefix))
        for version in (v for key in keys if (v := self._layout.parse_log_version(key)) is not None):
            if version >= first:
                return
            self._find(
                self._layout.log_version(version), f"stands before version {first}, and versions between are missing"
            )

    def _index(self, state: ArchiveState) -> None:
        name = self._layout.index(state.version)
        try:
            if self._log.index.read(state.version) != state:
                self._find(name, "holds another state than the log gives")
            self._indexes += 1
        except (ArchiveError, ObjectNotFound) as error:
            self._find(name, error.message)

    # --- contents -----------------------------------------------------------------------------------------------------

    def _transactions(self, state: ArchiveState) -> tuple[int | None, int | None]:
        """GTIDs and row changes counted; None if an object can't be read, for then they don't add up."""
        flavor = state.identity.flavor if state.identity else "mysql"
        account = GtidAccount(flavor, state.checkpoints, state.gaps)
        cut_at_us, changes, whole = 0, 0, True
        jobs = ((t.path, lambda t=t: next(iter(read_transactions(self._store, [t])))) for t in state.transactions)
        total = len(state.transactions)
        for number, (segment, data) in enumerate(zip(state.transactions, self._ahead(jobs), strict=True), start=1):
            self._progress("transactions", number, total)
            if data is None:
                whole = False
                continue
            problems = list(check_transactions(segment, data, cut_at_us))
            for problem in problems:
                self._find(segment.path, problem)
            cut_at_us = max(cut_at_us, segment.max_cut_at_us)
            if problems:
                whole = False
            elif whole:
                changes += sum(data["row_changes"].to_pylist())
                for problem in account.add(data):
                    self._find(segment.path, problem)
        if not whole:
            return None, None
        newest = self._layout.log_version(state.version)
        for problem in account.finish():
            self._find(newest, problem)
        return account.count, changes

    def _changes(self, state: ArchiveState) -> int | None:
        """Row changes counted; None if an object can't be read."""

        def check(segment: Segment) -> list[str]:
            data = read_segment(self._store, segment)
            return list(check_segment(segment, state.schemas.get(segment.schema_id), data))

        jobs = ((s.path, lambda s=s: check(s)) for s in state.segments)
        total, counted, whole = len(state.segments), 0, True
        for number, (segment, problems) in enumerate(zip(state.segments, self._ahead(jobs), strict=True), start=1):
            self._progress("changes", number, total)
            for problem in problems or ():
                self._find(segment.path, problem)
            whole = whole and problems == []
            counted += segment.inserts + segment.updates + segment.deletes
        return counted if whole else None

    def _pending(self, state: ArchiveState) -> None:
        def check(seq: int, one: PendingObject) -> list[str]:
            data = read_verified(self._store, one.path, one.sha256)
            return list(check_pending(one, seq, state.schemas.get(one.schema_id), data))

        pairs = [(p.seq, o) for p in state.pending for o in p.objects]
        jobs = ((o.path, lambda seq=seq, o=o: check(seq, o)) for seq, o in pairs)
        for (_, one), problems in zip(pairs, self._ahead(jobs), strict=True):
            for problem in problems or ():
                self._find(one.path, problem)

    def _baselines(self, state: ArchiveState) -> None:
        pairs = [(b.definition, o) for s in state.snapshots for b in s.baselines for o in b.objects]

        def check(table: Table, one: DataObject) -> list[str]:
            return list(check_baseline(one, table, read_verified(self._store, one.path, one.sha256)))

        jobs = ((o.path, lambda t=t, o=o: check(t, o)) for t, o in pairs)
        for number, ((_, one), problems) in enumerate(zip(pairs, self._ahead(jobs), strict=True), start=1):
            self._progress("baselines", number, len(pairs))
            for problem in problems or ():
                self._find(one.path, problem)
        told = [s.definitions for s in state.snapshots if s.definitions]
        held = (
            (o.path, lambda o=o: [*check_definitions(o, read_verified(self._store, o.path, o.sha256))]) for o in told
        )
        for one, problems in zip(told, self._ahead(held), strict=True):
            for problem in problems or ():
                self._find(one.path, problem)
        for number, snapshot in enumerate(state.snapshots, start=1):
            self._progress("dumps", number, len(state.snapshots))
            self._dump_files(snapshot)

    def _dump_files(self, snapshot: Snapshot) -> None:
        for name, size, sha256 in self._names.dumps.get(snapshot.path, ()):
            key = snapshot.path + name
            if key not in self._names.missing and self._sha256(key, size) not in (sha256, None):
                self._find(key, "doesn't have the bytes that the manifest recorded for it")

    def _sha256(self, key: str, size_bytes: int) -> str | None:
        """None if the object went away, which the listing told or will tell next time."""
        try:
            if size_bytes <= _IN_MEMORY:
                return hashlib.sha256(self._store.get(key)).hexdigest()
            with tempfile.TemporaryDirectory(prefix="rowback-verify-") as folder:
                path = Path(folder) / "object"
                self._store.download(key, path)
                with path.open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
        except ObjectNotFound:
            return None

    def _ahead(self, jobs: Iterable[tuple[str, Callable[[], T]]]) -> Iterator[T | None]:
        """Results in order, a few computed ahead; None for an object that is damaged, which is told, or missing."""
        with ThreadPoolExecutor(_THREADS) as pool:
            running: deque[tuple[str, Future[T]]] = deque()
            for path, job in jobs:
                running.append((path, pool.submit(job)))
                if len(running) > _AHEAD:
                    yield self._result(*running.popleft())
            while running:
                yield self._result(*running.popleft())

    def _result(self, path: str, future: Future[T]) -> T | None:
        try:
            return future.result()
        except ArchiveError as error:
            if path not in self._names.missing:
                self._find(path, error.message)
            return None
