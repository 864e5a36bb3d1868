"""The log of an archive: one object per commit, each written once and never changed.

A commit is `put_if_absent` of the next version. Promises:
- what `commit` returned is in the log exactly once, whatever the store answered or failed to answer;
- a writer of an older generation than the log's newest can't commit (Fenced);
- `read` gives a state only if every version from 1 (or from the state known before) to the head is there, parses,
  follows its predecessor by hash and keeps the invariants of recovery/archive/state.py; otherwise it names the object.
  "From 1" may be from an index (recovery/archive/index.py), which is a fold made earlier;
- a writer that slept while the log was trimmed past what it knows can't commit: a version number that was trimmed is free
  again in the store, so each commit proves that its predecessor is still there.

The chain of hashes finds damage; it is no defence against someone who rewrites the whole log.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, TypeAlias

from recovery.archive.actions import Action, Writer
from recovery.archive.index import IndexFiles
from recovery.archive.names import Layout
from recovery.archive.replacing import InvariantError
from recovery.archive.state import EMPTY, ArchiveState, Commit, apply, damaged
from recovery.archive.store import Store
from recovery.errors import (
    ArchiveDamaged,
    ArchiveError,
    CommitConflict,
    Fenced,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreUnavailable,
)
from recovery.failpoint import failpoint

Build: TypeAlias = Callable[[ArchiveState], Sequence[Action]]

READERS: Final = 8  # parallel reads of log objects: each is a round trip of some 30 ms on S3
_BATCH: Final = 256  # versions read ahead of the fold
INDEX_EVERY: Final = 128  # commits: a reader then has at most about so many log objects to read
_SLEPT_US: Final = 3_600_000_000  # behind a head as old as that, a writer first looks whether it is still there
_journal = logging.getLogger("rowback.archive")


class Log:
    """One server's log in a store.

    max_rebuilds: how often `commit` plans again because another writer was faster. max_attempts: how often it repeats
    one write whose outcome it can't learn. now: aware; it is recorded, and decides nothing. index_every: after so many
    commits the next one also writes an index; 0 for never.
    """

    def __init__(
        self,
        store: Store,
        layout: Layout,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        max_rebuilds: int = 50,
        max_attempts: int = 4,
        sleep: Callable[[float], None] = time.sleep,
        index_every: int = INDEX_EVERY,
    ) -> None:
        self._store = store
        self._layout = layout
        self._now = now
        self._max_rebuilds = max_rebuilds
        self._max_attempts = max_attempts
        self._sleep = sleep
        self._index_every = index_every
        self._indexed: int | None = None  # the newest version known to have an index
        self.index = IndexFiles(store, layout)

    def with_attempts(self, max_attempts: int) -> Log:
        """The same log for a caller that repeats by itself what had no known outcome."""
        other = copy(self)
        other._max_attempts = max_attempts
        return other

    def read(self, known: ArchiveState | None = None) -> ArchiveState:
        """The state at the head. Reads only what is newer than `known`, or than the newest index. An archive that isn't
        there yet is version 0."""
        if known is None or known.version == 0:
            return self._onward(self._opened())
        try:
            return self._onward(known)
        except _KnownMissing:
            opened = self._opened()
            if opened.version <= known.version:
                raise
            return self._onward(opened)  # what was known has been trimmed since

    def walk(self, start: ArchiveState = EMPTY) -> Iterator[tuple[Commit, ArchiveState]]:
        """Each commit behind `start` with the state after it, from the log alone: no index is read."""
        yield from self._commits_after(start)

    def oldest(self) -> int:
        """The oldest version from which on none is missing; 0 if there is none at all."""
        oldest = newest = 0
        for info in self._store.list(self._layout.log_prefix):
            version = self._layout.parse_log_version(info.key)
            if version is not None:
                oldest = oldest if newest and version == newest + 1 else version
                newest = version
        return oldest

    def newest(self) -> int:
        """The newest version in the store; 0 if there is none."""
        hint = self.index.latest()
        found = self._head(0, self._layout.log_version(hint.version - 1)) if hint else 0
        return found or self._head(0)

    def _onward(self, head: ArchiveState) -> ArchiveState:
        for _, head in self._commits_after(head):  # noqa: B007, B020 - the last one is wanted
            pass
        return head

    def _opened(self) -> ArchiveState:
        """The state of the newest whole index, proved against the log object that it was made from."""
        for state in self.index.newest():
            if not self.proves(state):
                raise damaged(self._layout.log_version(state.version), "is another one than its index was made from")
            self._indexed = max(self._indexed or 0, state.version)
            return state
        return EMPTY

    def proves(self, state: ArchiveState) -> bool:
        """Whether the state's newest commit is the one in the log. Raises ArchiveDamaged if it isn't there."""
        name = self._layout.log_version(state.version)
        try:
            return sha256(self._store.get(name)).hexdigest() == state.sha256
        except ObjectNotFound as error:
            raise damaged(name, "is missing, though there is an index made from it") from error

    def commit(
        self,
        state: ArchiveState,
        build: Build,
        *,
        generation: int | None = None,
        commit_id: str | None = None,
    ) -> ArchiveState:
        """Commit what `build` makes of the head and return the state with it. Nothing is written if it makes nothing.

        build is called with `state` and, if another writer was faster, again with the newer head: it must check that
        what its actions build on still holds, and may raise to give up. generation: the caller's own; None for writers
        that no capture fences (a snapshot). commit_id: 32 hex digits; a caller that repeats a commit after
        StoreUnavailable gives the same one again, so that a commit which had landed is found instead of made twice.

        Raises Fenced, CommitConflict (others were faster every time), StoreUnavailable (the outcome is not known: read
        again, or repeat with the same commit_id), StoreFull and StoreError (not committed), ArchiveDamaged.
        """
        return self._commit(state, build, lambda _: generation, generation, commit_id or secrets.token_hex(16))

    def start_generation(
        self,
        state: ArchiveState,
        host: str,
        pid: int,
        extra: Build | None = None,
        *,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        lower_case_table_names: int | None = None,
    ) -> ArchiveState:
        """Take the archive over: commit a `writer` action of the next generation, with the actions of `extra` (checked
        like those of `commit`). All older generations are fenced from then on. The returned state's generation is the
        caller's. include, exclude: its capture filter. lower_case_table_names: the source's."""

        def build(head: ArchiveState) -> list[Action]:
            last = (include, exclude, lower_case_table_names)
            writer = Writer(head.generation + 1, host, pid, self._now_us(), head.last_seq, *last)
            return [writer, *(extra(head) if extra else ())]

        return self._commit(state, build, lambda head: head.generation + 1, None, secrets.token_hex(16))

    def _commit(
        self,
        state: ArchiveState,
        build: Build,
        generation_at: Callable[[ArchiveState], int | None],
        fence: int | None,
        commit_id: str,
    ) -> ArchiveState:
        if state.version and self._now_us() - state.updated_at_us > _SLEPT_US and self._is_trimmed(state.version):
            raise _slept(state, fence)
        for attempt in range(self._max_rebuilds + 1):
            _check_fence(state, fence)
            actions = tuple(build(state))
            if not actions:
                return state
            ours = Commit(state.version + 1, commit_id, generation_at(state), state.sha256, self._now_us(), actions)
            committed, head = self._write(state, ours)
            if committed:
                self._index(head)
                return head
            state = head
            self._pause(attempt, longest_s=2.0)
        raise CommitConflict(
            f"other writers were faster {self._max_rebuilds + 1} times in a row in `{self._layout.log_prefix}`",
            hint="Try again; if it happens often, look for a second process that works on the same archive.",
        )

    def _write(self, state: ArchiveState, ours: Commit) -> tuple[bool, ArchiveState]:
        """Bring one commit to a known end: (True, the state with it), or (False, the head) if the version is
        another's."""
        body, after = _checked(state, ours)
        key = self._layout.log_version(ours.version)
        trouble = StoreUnavailable(
            f"it isn't known whether `{key}` was written: the store says that it exists and doesn't show it",
            hint="Check the store; repeating the command finds out, and doesn't commit twice.",
        )
        for attempt in range(self._max_attempts):
            if attempt:
                self._pause(attempt + 3, longest_s=5.0)
            try:
                failpoint("log.before-put")
                self._store.put_if_absent(key, body)
                failpoint("log.after-put")
                if self._is_trimmed(state.version):
                    self._store.delete(key)  # the number was free only because it had been trimmed; nobody reads it
                    raise _slept(state, ours.generation)
                return True, after
            except ObjectExists:
                pass  # another's, or our own after an answer that was lost
            except StoreUnavailable as error:
                trouble = error
            try:
                self._store.get(key)
            except ObjectNotFound:
                continue  # the write failed, or is still under way and will meet ours: the same body again is safe
            except StoreUnavailable as error:
                trouble = error
                continue
            try:
                return self._find(state, ours.commit_id)
            except _KnownMissing as error:
                if self.index.latest() is None:
                    raise
                raise _slept(state, ours.generation) from error
        raise trouble

    def _is_trimmed(self, known: int) -> bool:
        """Whether the log was trimmed past this version. Trimming goes from the oldest on: while a version is there, so
        is every later one."""
        if known > 0:
            return self._store.stat(self._layout.log_version(known)) is None
        later = self._store.list(self._layout.log_prefix, self._layout.log_version(1))
        following = next((v for info in later if (v := self._layout.parse_log_version(info.key)) is not None), 2)
        return following != 2

    def _index(self, state: ArchiveState) -> None:
        """Write an index if the newest is old. It only makes reading faster, so a store that refuses it is no error."""
        if not self._index_every:
            return
        try:
            if self._indexed is None or state.version - self._indexed >= self._index_every:
                hint = self.index.latest()
                self._indexed = hint.version if hint else 0
            if state.version - self._indexed >= self._index_every:
                self._indexed = self.index.write(state).version
        except StoreError as error:
            _journal.warning("index not written version=%d code=%s", state.version, error.code)

    def _find(self, state: ArchiveState, commit_id: str) -> tuple[bool, ArchiveState]:
        """(True, the state just after our commit) if the log has it beyond `state`; else (False, the head)."""
        head = state
        for commit, head in self._commits_after(state):
            if commit.commit_id == commit_id:
                return True, head
        return False, head

    def _commits_after(self, state: ArchiveState) -> Iterator[tuple[Commit, ArchiveState]]:
        """Each commit newer than `state` with the state after it, in order, checked."""
        head = self._head(state.version)
        if head <= state.version:
            return
        # Versions are fetched by number up to the highest listed: a directory listing that runs beside a writer may
        # show a newer file and not an older one.
        with ThreadPoolExecutor(max_workers=min(READERS, head - state.version)) as pool:
            for first in range(state.version + 1, head + 1, _BATCH):
                batch = range(first, min(first + _BATCH, head + 1))
                for version, body in zip(batch, pool.map(self._fetch, batch), strict=True):
                    name = self._layout.log_version(version)
                    commit = Commit.from_bytes(body, name)
                    try:
                        state = apply(state, commit)
                    except InvariantError as error:
                        raise damaged(name, str(error)) from error
                    yield commit, state

    def _head(self, known: int, after: str = "") -> int:
        """The newest version in the store behind the key `after`, at least `known`. Raises ArchiveDamaged if `known`
        itself is gone."""
        after = self._layout.log_version(known - 1) if known > 0 else after
        versions = [
            version
            for info in self._store.list(self._layout.log_prefix, after)
            if (version := self._layout.parse_log_version(info.key)) is not None
        ]
        if known > 0 and known not in versions:
            raise _KnownMissing.of(self._layout.log_version(known))
        return max(versions, default=known)

    def _fetch(self, version: int) -> bytes:
        name = self._layout.log_version(version)
        try:
            return self._store.get(name)
        except ObjectNotFound as error:
            raise damaged(name, "is missing, though newer ones are there") from error

    def _pause(self, attempt: int, longest_s: float) -> None:
        self._sleep(random.uniform(0.2, 1.0) * min(longest_s, 0.02 * 2 ** min(attempt, 12)))

    def _now_us(self) -> int:
        return int(self._now().timestamp() * 1_000_000)


class _KnownMissing(ArchiveDamaged):
    """A version that was read before isn't there any more: trimmed, or lost."""

    @staticmethod
    def of(name: str) -> _KnownMissing:
        error = damaged(name, "was there and is missing now")
        return _KnownMissing(error.message, hint=error.hint)


def _slept(state: ArchiveState, generation: int | None) -> ArchiveError:
    """What a writer is told whose view of the log is older than the log."""
    kind = Fenced if generation is not None else CommitConflict
    return kind(
        f"the log was trimmed past version {state.version}, the newest that this writer knows",
        hint="It slept for days while others wrote. Start it again: it reads the archive anew.",
    )


def _checked(state: ArchiveState, commit: Commit) -> tuple[bytes, ArchiveState]:
    """A commit's bytes and the state after it. What couldn't be read back is never written."""
    try:
        body = commit.to_bytes()
        read_back = Commit.from_bytes(body, "")
        if replace(read_back, sha256="") != commit:
            raise InvariantError("doesn't read back as it was written")
        return body, apply(state, replace(commit, sha256=sha256(body).hexdigest()))
    except (ValueError, TypeError, ArchiveError) as error:
        raise ArchiveError(
            f"version {commit.version} of the log was not written: it {error}",
            hint="Nothing was committed and the archive is whole: please report this as a bug.",
        ) from error


def _check_fence(state: ArchiveState, generation: int | None) -> None:
    if generation is not None and state.generation != generation:
        by = f" by process {state.writer.pid} on `{state.writer.host}`" if state.writer else ""
        raise Fenced(
            f"generation {generation} was fenced: generation {state.generation} was started{by}",
            hint="Another capture has taken this archive over; stop one of the two. What this one committed is safe.",
        )
