"""The sweep carried out: removed objects and orphans are deleted, the log is trimmed, old indexes go.

Promises: nothing that the log names is deleted: the listing is older than the state, and the state is read anew before the
first deletion; the log is trimmed in ascending order, one version at a time, so that a version that is there proves that no
later one was trimmed; a sweep that is killed anywhere leaves a whole archive, and the next one goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from recovery.archive.actions import Action, Swept
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.state import ArchiveState, damaged
from recovery.archive.store import ObjectInfo, Store
from recovery.archive.sweeping import KEEP_INDEXES, SweepPlan, Trim, named_paths, plan_objects, plan_trim
from recovery.errors import ArchiveDamaged, ObjectNotFound, StoreError

FOLDERS = ("changes/", "transactions/", "pending/", "baselines/", "probe/")


@dataclass(frozen=True)
class SweepResult:
    """What was deleted. version: of the commit that says so, None if there was nothing to say."""

    plan: SweepPlan
    objects: int
    size_bytes: int
    trimmed: int
    indexes: int
    version: int | None


@dataclass
class Sweeper:
    """grace: how long a removed object stays. on_delete: told each name before it is deleted."""

    store: Store
    layout: Layout
    log: Log
    grace: timedelta = timedelta(hours=24)
    on_delete: Callable[[str], None] = lambda name: None

    def plan(self) -> SweepPlan:
        """What a sweep would delete now. Writes and deletes a probe object, for the store's time."""
        return self._plan()[0]

    def run(self) -> SweepResult:
        plan, state = self._plan()
        # Names never come back and old orphans are never committed, so this finds nothing unless a rule was broken.
        head = self.log.read(state)
        named = named_paths(head)
        for doomed in plan.doomed:
            if doomed.path in named:
                raise StoreError(
                    f"object `{doomed.path}` was about to be swept and is named by the log now",
                    hint="Nothing more was deleted. Check the store's clock, and report this as a bug.",
                )
            self._delete(doomed.path)
        before = head.version
        head = self.log.commit(head, lambda now: _swept(now, plan.swept))
        for version in plan.trim:
            self._delete(self.layout.log_version(version))
        for version in plan.indexes:
            self._delete(self.layout.index(version))
        return SweepResult(
            plan,
            len(plan.doomed),
            plan.size_bytes,
            len(plan.trim),
            len(plan.indexes),
            head.version if head.version != before else None,
        )

    def _delete(self, name: str) -> None:
        self.on_delete(name)
        self.store.delete(name)

    def _plan(self) -> tuple[SweepPlan, ArchiveState]:
        now = self._store_time()
        listed: list[ObjectInfo] = []
        for folder in FOLDERS:
            listed.extend(self.store.list(self.layout.prefix + folder))
        state = self.log.read()  # after the listing: what was committed before is named in it
        removed_at = {version: self._written_at(version) for version in {r.version for r in state.removed}}
        doomed, kept, swept = plan_objects(state, self.layout, listed, removed_at, now, self.grace)
        trim, indexes = self._trim(now)
        return SweepPlan(state.version, doomed, kept, swept, trim.versions, trim.reason, indexes), state

    def _trim(self, now: datetime) -> tuple[Trim, tuple[int, ...]]:
        """Old log versions, and the indexes that aren't among the newest whole ones."""
        indexes = self.log.index.versions()
        whole: list[int] = []
        for version in indexes:
            if len(whole) < KEEP_INDEXES and self._is_whole(version):
                whole.append(version)
        listed = ((self.layout.parse_log_version(i.key), i) for i in self.store.list(self.layout.log_prefix))
        versions = [(version, info.modified_at) for version, info in listed if version is not None]
        old = tuple(v for v in reversed(indexes) if len(whole) == KEEP_INDEXES and v < whole[-1])
        return plan_trim(versions, whole, now, self.grace), old

    def _is_whole(self, version: int) -> bool:
        """Whether the index can be read and belongs to its log object. Raises ArchiveDamaged if the log is another one."""
        try:
            state = self.log.index.read(version)
        except (ArchiveDamaged, ObjectNotFound):
            return False
        if not self.log.proves(state):
            raise damaged(self.layout.log_version(version), "is another one than its index was made from")
        return True

    def _written_at(self, version: int) -> datetime | None:
        info = self.store.stat(self.layout.log_version(version))
        return None if info is None else info.modified_at

    def _store_time(self) -> datetime:
        key = f"{self.layout.prefix}probe/{secrets.token_hex(8)}"
        self.store.put(key, b"")
        try:
            info = self.store.stat(key)
        finally:
            self.store.delete(key)
        if info is None:
            raise StoreError(
                f"`{key}` was written and isn't there",
                hint="The store isn't consistent; check it with `rowback doctor`.",
            )
        return info.modified_at


def _swept(head: ArchiveState, version: int) -> Sequence[Action]:
    return [Swept(version)] if any(r.version <= version for r in head.removed) else []
