"""What may be deleted from an archive: a pure function of its state and of what lies in the store, with reasons.

- An object that a commit removed, once the grace time has passed since that commit.
- An object that no commit names, once the grace time has passed since it was written: an attempt that failed. Of baselines
  seven days, for a snapshot may take long. Directories of dumps are left alone. So are objects of transactions that the log
  doesn't have yet, however old: a capture that was cut off from the store for days may still commit them. Once the log has
  those transactions, nobody can.
- Log objects from the oldest on: below the oldest of the three newest whole indexes, not among the last 1,000 versions nor
  those of the last seven days.
- Indexes older than the three newest whole ones.

Ages are by the store's clock: it dates objects, commits included, and is asked for its time now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from recovery.archive.names import Layout
from recovery.archive.state import ArchiveState
from recovery.archive.store import ObjectInfo

KEEP_VERSIONS: Final = 1_000
KEEP_S: Final = 7 * 24 * 3600
KEEP_INDEXES: Final = 3


@dataclass(frozen=True)
class Doomed:
    """An object to delete, and why."""

    path: str
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class Kept:
    """Objects that could go but for the reason."""

    objects: int
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class SweepPlan:
    """version: of the state. swept: the log's versions up to it have no removed object left afterwards; 0 for none.
    trim: log versions to delete, ascending; trim_reason: why these, or why none. indexes: versions whose index goes."""

    version: int
    doomed: tuple[Doomed, ...]
    kept: tuple[Kept, ...]
    swept: int
    trim: tuple[int, ...]
    trim_reason: str
    indexes: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return sum(d.size_bytes for d in self.doomed)


@dataclass(frozen=True)
class Trim:
    versions: tuple[int, ...]
    reason: str


def plan_objects(
    state: ArchiveState,
    layout: Layout,
    listed: Iterable[ObjectInfo],
    removed_at: Mapping[int, datetime | None],
    now: datetime,
    grace: timedelta,
) -> tuple[tuple[Doomed, ...], tuple[Kept, ...], int]:
    """(objects to delete, objects kept for a while, the version up to which removed objects are gone then).

    listed: below changes/, transactions/, pending/, baselines/ and probe/, before the state was read. removed_at: when the
    log objects of the versions that removed something were written; None for one that was trimmed, which was long ago.
    """
    named = named_paths(state)
    removed = {r.path: r.version for r in state.removed}
    old = {v for v, at in removed_at.items() if at is None or at + grace < now}
    doomed: list[Doomed] = []
    kept: dict[str, tuple[int, int]] = {}

    def keep(info: ObjectInfo, reason: str) -> None:
        count, size = kept.get(reason, (0, 0))
        kept[reason] = count + 1, size + info.size_bytes

    for info in listed:
        if info.key in named:
            continue
        version = removed.get(info.key)
        baseline = info.key.startswith(f"{layout.prefix}baselines/")
        patience = max(grace, timedelta(seconds=KEEP_S)) if baseline else grace
        if version is not None and version in old:
            doomed.append(Doomed(info.key, info.size_bytes, f"removed by version {version}"))
        elif version is not None:
            keep(info, "removed, and a reader may still hold it")
        elif (layout.last_seq(info.key) or 0) > state.last_seq:
            keep(info, "of transactions that aren't committed yet")
        elif info.modified_at + patience < now:
            doomed.append(Doomed(info.key, info.size_bytes, "no commit names it"))
        else:
            keep(info, "no commit names it, but one may still come")
    waiting = [v for v in set(removed.values()) if v not in old]
    done = [v for v in set(removed.values()) if not waiting or v < min(waiting)]
    listing = tuple(Kept(count, size, reason) for reason, (count, size) in sorted(kept.items()))
    return tuple(doomed), listing, max(done, default=0)


def named_paths(state: ArchiveState) -> set[str]:
    """Every data object that counts."""
    paths = {s.path for s in state.segments} | {t.path for t in state.transactions}
    paths |= {o.path for snapshot in state.snapshots for b in snapshot.baselines for o in b.objects}
    paths |= {s.definitions.path for s in state.snapshots if s.definitions}
    return paths | {o.path for pending in state.pending for o in pending.objects}


def plan_trim(
    versions: Sequence[tuple[int, datetime]], whole_indexes: Sequence[int], now: datetime, grace: timedelta
) -> Trim:
    """versions: of the log, ascending, with the store's times. whole_indexes: versions of indexes that were read and found
    whole, newest first."""
    if len(whole_indexes) < KEEP_INDEXES:
        return Trim((), f"fewer than {KEEP_INDEXES} whole indexes")
    newest = versions[-1][0] if versions else 0
    young = now - max(timedelta(seconds=KEEP_S), grace + timedelta(days=1))
    below = min(whole_indexes[KEEP_INDEXES - 1], newest - KEEP_VERSIONS + 1)
    below = min([below, *(version for version, at in versions if at >= young)])
    chosen = tuple(version for version, _ in versions if version < below)
    if not chosen:
        return Trim((), f"the last {KEEP_VERSIONS} versions and those of the last {KEEP_S // 86_400} days stay")
    return Trim(chosen, f"older than {KEEP_S // 86_400} days, {KEEP_VERSIONS} versions and {KEEP_INDEXES} indexes")
