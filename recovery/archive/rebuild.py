"""The index made anew, and a look at those that are there.

`refold` gives the state from the log itself: from version 1, or, where the log was trimmed, from the oldest index that the
log goes on from. Nothing is deleted here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from recovery.archive.index import SECTIONS, Hint
from recovery.archive.log import Log
from recovery.archive.state import EMPTY, ArchiveState, Commit
from recovery.errors import ArchiveDamaged, ArchiveError, ObjectNotFound


@dataclass(frozen=True)
class IndexLine:
    """One index object. problem: why it can't be used; empty if it can."""

    version: int
    path: str
    size_bytes: int
    problem: str


@dataclass(frozen=True)
class IndexReport:
    """The indexes of an archive, newest first. behind: log versions after the newest one that can be used, which every
    reader folds itself. items: how many of each kind that one holds."""

    server: str
    log_version: int
    oldest_log_version: int
    behind: int
    indexes: tuple[IndexLine, ...]
    items: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class IndexRebuilt:
    """from_version: the fold began behind this version, 0 for the whole log."""

    server: str
    version: int
    from_version: int
    path: str
    size_bytes: int
    items: tuple[tuple[str, int], ...]


def base_of(log: Log) -> ArchiveState:
    """What the log's oldest version follows on: nothing, or the state in the oldest whole index that it goes on from.
    Raises ArchiveDamaged if there is neither."""
    oldest = log.oldest()
    if oldest <= 1:
        return EMPTY
    for version in reversed(log.index.versions()):
        if version < oldest:
            continue
        try:
            return log.index.read(version)
        except (ObjectNotFound, ArchiveDamaged):
            continue
    raise ArchiveDamaged(
        f"the log begins with version {oldest} and no index before it can be read",
        hint="Bring an index or the trimmed log objects back from the store's own versioning or a copy.",
    )


def refold(log: Log, base: ArchiveState | None = None) -> Iterator[tuple[Commit | None, ArchiveState]]:
    """The base, then each commit with the state after it."""
    state = base_of(log) if base is None else base
    yield None, state
    yield from log.walk(state)


def counts(state: ArchiveState) -> tuple[tuple[str, int], ...]:
    return tuple((section.name, len(getattr(state, section.name))) for section in SECTIONS)


def rebuild(log: Log, server: str, on_version: Callable[[int], None] = lambda _: None) -> IndexRebuilt:
    """Fold the log without trusting any newer index, and write one at its head. on_version: called now and then."""
    base = base_of(log)
    state = base
    for _, state in log.walk(base):
        if state.version % 100 == 0:
            on_version(state.version)
    hint: Hint = log.index.write(state)
    return IndexRebuilt(server, state.version, base.version, hint.path, hint.size_bytes, counts(state))


def examine(log: Log, server: str) -> IndexReport:
    """Every index object, read and checked."""
    lines: list[IndexLine] = []
    newest: ArchiveState | None = None
    for info, version in log.index.objects():
        problem = ""
        try:
            state = log.index.read(version)
        except (ArchiveError, ObjectNotFound) as error:
            problem = error.message
        else:
            newest = newest or state
        lines.append(IndexLine(version, info.key, info.size_bytes, problem))
    head = log.newest()
    behind = head - (newest.version if newest else 0)
    return IndexReport(server, head, log.oldest(), behind, tuple(lines), counts(newest) if newest else ())
