"""Objects that a bucket's lifecycle rules have moved to an archive tier, where they can't be read until they are asked for.

A restore names them before it writes anything; with a Thaw it asks for them first and waits. Stores without tiers (a
folder) hold nothing back. Promises: looking changes nothing, and only what the plan reads is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from recovery.archive.store import HeldBack, Store, Tiered
from recovery.errors import ConfigError, ObjectArchived

if TYPE_CHECKING:
    from recovery.archive.state import ArchiveState
    from recovery.restore_plan import RestorePlan

TIERS: Final = ("Standard", "Bulk", "Expedited")  # S3 API Reference, RestoreObject, GlacierJobParameters
_NAMED: Final = 5  # of many objects; the count says the rest
_PARALLEL: Final = 16


@dataclass(frozen=True)
class Thaw:
    """How to ask for objects. days: how long the store keeps the readable copies. wait: for them; else only ask. poll_s:
    between two looks (retrieval takes minutes to two days)."""

    tier: str = "Standard"
    days: int = 7
    wait: bool = True
    poll_s: float = 60.0

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise ConfigError(f"`{self.tier}` is no retrieval tier", hint=f"Give one of {', '.join(TIERS)}.")
        if self.days < 1:
            raise ConfigError(f"{self.days} days are too few", hint="Give `--thaw-days` at least 1.")


def read_by(plan: RestorePlan) -> list[str]:
    """Keys of the data objects that a run of the plan reads, each once."""
    keys = [o.path for t in plan.tables for o in t.objects]
    keys += [s.path for t in plan.tables for stage in t.staged.stages for s in stage.segments]
    keys += [s.path for s in plan.objects.segments]
    for derivation in plan.derivations:
        keys += [o.path for t in derivation.tables for o in t.objects]
        keys += [s.path for t in derivation.tables for s in t.segments]
    return list(dict.fromkeys(keys))


def read_by_planning(state: ArchiveState) -> list[str]:
    """Keys of what planning may read: transactions segments, and snapshots' definitions."""
    keys = [t.path for t in state.transactions]
    return keys + [s.definitions.path for s in state.snapshots if s.definitions is not None]


def held_back(store: Store, keys: Iterable[str]) -> list[HeldBack]:
    """Those of the objects that can't be read now. One small request per object; none in a store without tiers."""
    if not isinstance(store, Tiered):
        return []
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return [found for found in pool.map(store.held_back, keys) if found is not None]


def notes(found: Sequence[HeldBack]) -> list[str]:
    """A line per object, for the plan."""
    return [f"object `{o.key}` is in {o.tier} and can't be read {_state(o)}" for o in found]


def make_readable(store: Store, keys: Sequence[str], thaw: Thaw | None, tell: Callable[[str], None]) -> None:
    """Return when all of the objects can be read. Raises ObjectArchived, naming them, without a Thaw and, once they are
    asked for, with one that doesn't wait. tell: a line whenever something has changed."""
    found = held_back(store, keys)
    if not found:
        return
    if thaw is None:
        raise _archived(
            found, "Ask for them with `--thaw`, which waits, or `--thaw --no-wait`, and restore again later."
        )
    assert isinstance(store, Tiered)
    for one in found:
        if not one.asked:
            store.thaw(one.key, thaw.days, thaw.tier)
    tell(f"asked for {len(found)} objects in an archive tier ({thaw.tier})")
    if not thaw.wait:
        if found := held_back(store, keys):
            raise _archived(found, "They are asked for: restore again when they are there.")
        return
    total = left = len(found)
    while found := held_back(store, [o.key for o in found]):
        if len(found) < left:
            left = len(found)
            tell(f"{total - left} of {total} objects have come out of the archive tier")
        time.sleep(thaw.poll_s)
    tell(f"all {total} objects have come out of the archive tier")


def _state(one: HeldBack) -> str:
    return "yet: it is asked for" if one.asked else "until it is asked for (`--thaw`)"


def _archived(found: Sequence[HeldBack], hint: str) -> ObjectArchived:
    names = ", ".join(f"`{o.key}` ({o.tier})" for o in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more; `--dry-run` names all" if len(found) > _NAMED else ""
    return ObjectArchived(f"{len(found)} objects lie in an archive tier and can't be read: {names}{more}", hint=hint)
