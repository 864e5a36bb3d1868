"""The local spool: closed windows that wait for a store that is away.

    <folder>/lock                    held by the process that uses it
    <folder>/objects/<object name>   what the store would have got, under the same names
    <folder>/windows/<number>.json   a commit, made up, and which of its objects lie here; in order

Promises: what `put` and `append` returned is on disk (fsync of file and folder) and survives kill -9; a window's file is
written after its objects and deleted before them; the folder holds at most `limit_bytes` (StoreFull beyond, and where
the disk is full). Nothing in it is part of the archive, and nothing of it is needed as long as the source has its binlog.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from dataflow.commits import Archive, Ready, commit, follows
from recovery.archive.actions import Checkpoint, action_from_json, action_to_json
from recovery.archive.filestore import FileStore
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import (
    ArchiveDamaged,
    ArchiveError,
    ObjectNotFound,
    RowbackError,
    SpoolDamaged,
    StoreError,
    StoreFull,
    UnknownFormat,
)
from recovery.failpoint import failpoint

_OBJECTS = "objects/"
_WINDOWS = "windows/"
log = logging.getLogger("rowback.capture")


@dataclass(frozen=True)
class Entry:
    """A window in the spool. objects: the names of those of its objects that lie here."""

    number: int
    what: Ready
    objects: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{_WINDOWS}{self.number:020d}.json"

    def to_bytes(self) -> bytes:
        document = {
            "commit_id": self.what.commit_id,
            "generation": self.what.generation,
            "before": asdict(self.what.before),
            "actions": [action_to_json(a) for a in self.what.actions],
            "objects": list(self.objects),
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(number: int, body: bytes) -> Entry:
        try:
            document = json.loads(body)
            actions = tuple(action_from_json(a) for a in document["actions"])
            before = Checkpoint(**document["before"])
            what = Ready(document["commit_id"], document["generation"], before, actions)
            return Entry(number, what, tuple(document["objects"]))
        except (ValueError, KeyError, TypeError, RowbackError) as error:
            raise SpoolDamaged(
                f"window {number} of the spool can't be read: {error}",
                hint="It will be read from the source again.",
            ) from error


class Spool:
    """One archive's. Methods may be called from any thread. folder: made when it is first needed."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._files = FileStore(folder)
        self._lock = threading.Lock()
        self._held: int | None = None  # the descriptor of the lock file
        self._sizes: dict[str, int] = {}  # objects that lie here
        self._entries: list[Entry] = []
        self._next = 1

    @property
    def size_bytes(self) -> int:
        with self._lock:
            return sum(self._sizes.values())

    def __len__(self) -> int:
        """How many windows wait."""
        with self._lock:
            return len(self._entries)

    def has(self, key: str) -> bool:
        """Whether this object lies here."""
        with self._lock:
            return key in self._sizes

    def first(self) -> Entry | None:
        with self._lock:
            return self._entries[0] if self._entries else None

    def acquire(self) -> bool:
        """Take the spool for this process and read what is in it; False if another process has it. Raises StoreError if the
        folder can't be used."""
        if self._held is not None:
            return True
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"can't use the spool folder `{self.folder}`: {(error.strerror or str(error)).lower()}",
                hint="Set `spool_folder` to a folder that capture may write to, or `spool_bytes = 0` to do without.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._held = descriptor
        with self._lock:
            self._sizes = {i.key.removeprefix(_OBJECTS): i.size_bytes for i in self._files.list(_OBJECTS)}
            numbers = [int(Path(i.key).stem) for i in self._files.list(_WINDOWS)]
            self._next = max(numbers, default=0) + 1
        return True

    def load(self) -> None:
        """Read the windows that another life left here. Raises SpoolDamaged."""
        keys = [info.key for info in self._files.list(_WINDOWS)]
        found = [Entry.from_bytes(int(Path(key).stem), self._files.get(key)) for key in keys]
        with self._lock:
            self._entries = found

    def forget_landed(self, state: ArchiveState) -> list[Entry]:
        """The windows that are not in the archive yet; those whose commit had landed when the process that made it ended are
        forgotten."""
        with self._lock:
            entries = list(self._entries)
        landed = next((n for n, e in reversed(list(enumerate(entries, 1))) if follows(state, e.what.after)), 0)
        for entry in entries[:landed]:
            self.done(entry)
        return entries[landed:]

    def release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def put(self, key: str, body: bytes) -> None:
        """Keep an object. Raises StoreFull."""
        with self._lock:
            if sum(self._sizes.values()) + len(body) > self.limit_bytes:
                raise StoreFull(
                    f"the spool `{self.folder}` holds {self.limit_bytes} bytes",
                    hint="Raise `spool_bytes`, or bring the store back.",
                )
            self._sizes[key] = len(body)
        try:
            self._files.put(f"{_OBJECTS}{key}", body)
        except StoreError:
            with self._lock:
                self._sizes.pop(key, None)
            raise

    def append(self, what: Ready) -> Entry:
        """Keep a window, behind the others. Raises StoreFull."""
        with self._lock:
            here = tuple(path for path in paths_of(what) if path in self._sizes)
            entry = Entry(self._next, what, here)
        failpoint("spool.append")
        self._files.put(entry.key, entry.to_bytes())
        with self._lock:
            self._next += 1
            self._entries.append(entry)
        failpoint("spool.appended")
        return entry

    def done(self, entry: Entry) -> None:
        """The window is committed: forget it."""
        self._files.delete(entry.key)
        for key in entry.objects:
            self._files.delete(f"{_OBJECTS}{key}")
        with self._lock:
            self._entries = [e for e in self._entries if e.number != entry.number]
            for key in entry.objects:
                self._sizes.pop(key, None)

    def clear(self) -> None:
        """Forget everything: windows first."""
        for prefix in (_WINDOWS, _OBJECTS):
            for info in list(self._files.list(prefix)):
                with contextlib.suppress(StoreError):
                    self._files.delete(info.key)
        with self._lock:
            self._entries, self._sizes = [], {}

    def read(self, key: str) -> bytes:
        return self._files.get(f"{_OBJECTS}{key}")


def paths_of(what: Ready) -> dict[str, str]:
    """The names of a commit's objects with their SHA-256."""
    found: dict[str, str] = {}
    for action in what.actions:
        for item in (action, *getattr(action, "objects", ())):
            if hasattr(item, "path") and hasattr(item, "sha256"):
                found[item.path] = item.sha256
    return found


def send(archive: Archive, spool: Spool, entry: Entry, state: ArchiveState) -> ArchiveState:
    """Upload a window's objects from the spool and commit it. Raises StoreUnavailable (again later), SpoolDamaged, and what
    `commit` raises."""
    for key, digest in paths_of(entry.what).items():
        if key in entry.objects:
            _upload(archive.store, spool, key, digest)
        elif archive.store.stat(key) is None:
            raise SpoolDamaged(
                f"object `{key}` of a window in the spool was uploaded and is gone",
                hint="Start capture again: the window is read from the source once more.",
            )
    failpoint("spool.uploaded")
    after = commit(archive.log, state, entry.what)
    failpoint("spool.committed")
    spool.done(entry)
    return after


def _upload(store: Store, spool: Spool, key: str, digest: str) -> None:
    try:
        body = spool.read(key)
    except ObjectNotFound:
        body = b""
    if sha256(body).hexdigest() != digest:
        raise SpoolDamaged(
            f"object `{key}` in the spool `{spool.folder}` isn't what was written",
            hint="Start capture again: the window is read from the source once more.",
        )
    store.put(key, body)


def replay(archive: Archive, spool: Spool) -> tuple[int, int]:
    """At a start, before the archive is taken over: commit the windows that an earlier life left in the spool, if they
    follow on the archive's head and no other capture has taken it over since. Else they are dropped: the source is read
    again from the archive's checkpoint. (windows committed, dropped.) Raises StoreUnavailable: the spool stays as it is.

    Exactly once: a window is committed only onto the checkpoint that it was read behind, and the next reading of the source
    begins at the archive's newest checkpoint, whoever committed that.
    """
    if not spool.folder.exists() or not spool.acquire():
        return 0, 0
    committed = 0
    try:
        try:
            spool.load()
            state = archive.log.read()
            for entry in spool.forget_landed(state):
                if entry.what.generation != state.generation or not follows(state, entry.what.before):
                    break
                state = send(archive, spool, entry, state)
                committed += 1
        except (SpoolDamaged, ArchiveError) as error:
            if isinstance(error, ArchiveDamaged | UnknownFormat):
                raise  # the archive's trouble, not the spool's
            log.warning("spool dropped code=%s", error.code)
        dropped = len(spool)
        spool.clear()
    finally:
        spool.release()
    if committed or dropped:
        log.info("spool replayed windows=%d dropped=%d", committed, dropped)
    return committed, dropped
