"""The log of an archive: one object per commit, each written once and never changed.

A commit is `put_if_absent` of the next version. Promises:
- what `commit` returned is in the log exactly once, whatever the store answered or failed to answer;
- a writer of an older generation than the log's newest can't commit (Fenced);
- `read` gives a state only if every version from 1 (or from the state known before) to the head is there, parses,
  follows its predecessor by hash and keeps the invariants of recovery/archive/state.py; otherwise it names the object.

The chain of hashes finds damage; it is no defence against someone who rewrites the whole log.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, TypeAlias

from recovery.archive.actions import Action, Writer
from recovery.archive.names import Layout
from recovery.archive.state import EMPTY, ArchiveState, Commit, InvariantError, apply, damaged
from recovery.archive.store import Store
from recovery.errors import (
    ArchiveError,
    CommitConflict,
    Fenced,
    ObjectExists,
    ObjectNotFound,
    StoreUnavailable,
)
from recovery.failpoint import failpoint

Build: TypeAlias = Callable[[ArchiveState], Sequence[Action]]

READERS: Final = 8  # parallel reads of log objects: each is a round trip of some 30 ms on S3
_BATCH: Final = 256  # versions read ahead of the fold


class Log:
    """One server's log in a store.

    max_rebuilds: how often `commit` plans again because another writer was faster. max_attempts: how often it repeats
    one write whose outcome it can't learn. now: aware; it is recorded, and decides nothing.
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
    ) -> None:
        self._store = store
        self._layout = layout
        self._now = now
        self._max_rebuilds = max_rebuilds
        self._max_attempts = max_attempts
        self._sleep = sleep

    def read(self, known: ArchiveState | None = None) -> ArchiveState:
        """The state at the head. Reads only what is newer than `known`. An archive that isn't there yet is version
        0."""
        head = known or EMPTY
        for _, head in self._commits_after(head):  # noqa: B007, B020 - the last one is wanted
            pass
        return head

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
    ) -> ArchiveState:
        """Take the archive over: commit a `writer` action of the next generation, with the actions of `extra` (checked
        like those of `commit`). All older generations are fenced from then on. The returned state's generation is the
        caller's. include, exclude: its capture filter."""

        def build(head: ArchiveState) -> list[Action]:
            writer = Writer(head.generation + 1, host, pid, self._now_us(), head.last_seq, include, exclude)
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
        for attempt in range(self._max_rebuilds + 1):
            _check_fence(state, fence)
            actions = tuple(build(state))
            if not actions:
                return state
            ours = Commit(state.version + 1, commit_id, generation_at(state), state.sha256, self._now_us(), actions)
            committed, head = self._write(state, ours)
            if committed:
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
            return self._find(state, ours.commit_id)
        raise trouble

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

    def _head(self, known: int) -> int:
        """The newest version in the store, at least `known`. Raises ArchiveDamaged if `known` itself is gone."""
        after = self._layout.log_version(known - 1) if known > 0 else ""
        versions = [
            version
            for info in self._store.list(self._layout.log_prefix, after)
            if (version := self._layout.parse_log_version(info.key)) is not None
        ]
        if known > 0 and known not in versions:
            raise damaged(self._layout.log_version(known), "was there and is missing now")
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
