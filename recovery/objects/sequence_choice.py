"""The sequences of a restore: those of its databases that the patterns take, and whatever a table's DEFAULT takes values of.

Pure. What can't be made is left out by name, and a table that needs it is named, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from recovery.archive.actions import Ddl, Segment, Snapshot
from recovery.archive.state import ArchiveState
from recovery.config import wanted as captured
from recovery.errors import NotComputable
from recovery.objects.choose import Known, definitions_of
from recovery.objects.plan import LeftOut, ObjectPlan
from recovery.objects.sequence_fold import fold, once_there
from recovery.objects.sequence_uses import uses
from recovery.objects.sequences import KIND, Doubt, LiveSequence, Part, Stretch, of_sequences
from recovery.scope import Pattern, in_scope, label, spelled, uncaptured

Name = tuple[str, str]


@dataclass(frozen=True)
class ChosenSequences:
    """notes: warnings. shared, passing: see ObjectPlan."""

    sequences: tuple[LiveSequence, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    shared: bool = False
    passing: tuple[Name, ...] = ()

    @property
    def names(self) -> frozenset[Name]:
        return frozenset((s.db, s.name) for s in self.sequences)

    def joined(self, plan: ObjectPlan) -> ObjectPlan:
        left_out = (*self.left_out, *plan.left_out)
        return replace(plan, sequences=self.sequences, left_out=left_out, shared=self.shared, passing=self.passing)


@dataclass(frozen=True)
class _Tables:
    """The restore's tables, and what they take values of: sequence -> tables."""

    names: Collection[Name]
    users: Mapping[Name, Sequence[Name]]

    @staticmethod
    def of(schemas: Mapping[Name, Sequence[str]]) -> _Tables:
        users: dict[Name, list[Name]] = {}
        for name, texts in schemas.items():
            for used in sorted({u for text in texts for u in uses(text, name[0])}):
                users.setdefault(used, []).append(name)
        return _Tables(schemas.keys(), users)


def choose_sequences(
    state: ArchiveState,
    usable: Sequence[tuple[Snapshot, int]],
    definitions: Mapping[str, Known],
    cut_seq: int,
    schemas: Mapping[Name, Sequence[str]],
    patterns: Sequence[Pattern],
    exclude: Sequence[Pattern],
) -> ChosenSequences:
    """usable, definitions: as `choose_objects` takes them. schemas: the statements that create each table of the restore."""
    tables = _Tables.of(schemas)
    catalogs: dict[str, Mapping[Name, LiveSequence]] = {}
    gone: set[Name] = set()

    def catalog(db: str) -> Mapping[Name, LiveSequence]:
        snapshot, low_seq = next((u for u in usable if db in dict(u[0].databases)), usable[0])
        if snapshot.snapshot_id not in catalogs:
            known = definitions_of(snapshot, definitions.get(snapshot.snapshot_id))
            catalogs[snapshot.snapshot_id] = fold(known, state.ddls, low_seq, cut_seq)
            gone.update(once_there(known, state.ddls, low_seq, cut_seq))
            # A synthetic snapshot's tables may have definitions from before it, and it has the sequences of its databases.
            gone.update(name for name in tables.users if snapshot.synthetic and name[0] in dict(snapshot.databases))
        return catalogs[snapshot.snapshot_id]

    databases = {db for db, _ in tables.names} | {db for db, _ in tables.users}
    if not patterns:
        databases |= {db for db, name in catalog("") if _captured(state, db, name)}
    every = {name: one for db in databases for name, one in catalog(db).items() if name[0] == db}
    chosen = {
        name: one
        for name, one in every.items()
        if name in tables.users or in_scope((name[0], state.stored_name(name[1])), patterns, exclude)
    }
    lost = tuple(LeftOut(KIND, *name, one.problem, one.text()) for name, one in sorted(chosen.items()) if one.problem)
    whole = with_segments(state, (one for _, one in sorted(chosen.items()) if not one.problem), cut_seq)
    there = {db for db, _ in tables.names} | {one.db for one in whole}
    passing = tuple(sorted(name for name in tables.users if name in gone - every.keys() and name[0] in there))
    for name in passing:
        if name in tables.names:
            raise _taken(name, tables.users[name][0])
    found = ChosenSequences(whole, lost, passing=passing)
    made = found.names | {*passing}
    shared = any(name[0] != db for name in made & tables.users.keys() for db, _ in tables.users[name])
    return replace(found, notes=(*_notes(state, found, tables),), shared=shared)


def _taken(name: Name, user: Name) -> NotComputable:
    return NotComputable(
        f"table `{label(user)}` was defined with values of sequence `{label(name)}`, which is gone at the target, and a "
        "table has that name now: no load can make both",
        hint=f"Leave one of them out with `--exclude '{spelled(user)}'`, restore to before the sequence was dropped, or "
        "take a snapshot for later targets.",
    )


def _notes(state: ArchiveState, found: ChosenSequences, tables: _Tables) -> list[str]:
    notes = ObjectPlan(left_out=found.left_out).warnings()
    notes += [
        f"values of {one.label} were left out by the capture filter for a while: its last known value is restored, and "
        "it may give numbers again that the source gave"
        for one in found.sequences
        if any(uncaptured(state, s.name, s.low_seq + 1, s.high_seq) for s in one.stretches)
    ]
    for one in found.sequences:
        doubts = [(at, part.why) for at, part in enumerate(one.parts) if isinstance(part, Doubt)]
        if doubts and not any(_surely(part) for part in one.parts[doubts[-1][0] :]):
            notes.append(f"{one.label} has its last value that is known for certain: {doubts[0][1]}")
    for name, users in sorted(tables.users.items()):
        if name not in found.names:
            what = f"the definition of {', '.join(f'`{label(user)}`' for user in users)} names sequence `{label(name)}`"
            notes.append(
                f"{what}, which isn't there at the target: the load makes one of this name and drops it at its end"
                if name in found.passing
                else f"{what}, which this restore doesn't have: it loads only where the server has one of this name"
            )
    return notes


def _surely(part: Part) -> bool:
    """Whether it has row images for certain: a segment's first and last transactions have some."""
    ends = {seq for s in part.segments for seq in (s.first_seq, s.last_seq)} if isinstance(part, Stretch) else set()
    return isinstance(part, Stretch) and any(part.low_seq < seq <= part.high_seq for seq in ends)


def _captured(state: ArchiveState, db: str, name: str) -> bool:
    writer = state.writer
    return writer is None or captured(writer.include, writer.exclude, db, state.stored_name(name))


def with_segments(state: ArchiveState, sequences: Iterable[LiveSequence], cut_seq: int) -> tuple[LiveSequence, ...]:
    """With the segments that hold their row images."""
    held: dict[Name, list[Segment]] = {}
    forms = of_sequences(state.schemas)
    for segment in state.segments if forms else ():
        if segment.schema_id in forms and segment.first_seq <= cut_seq:
            held.setdefault((segment.db, segment.table), []).append(segment)

    def filled(part: Part) -> Part:
        if not isinstance(part, Stretch):
            return part
        those = (s for s in held.get(part.name, ()) if s.first_seq <= part.high_seq and s.last_seq > part.low_seq)
        return replace(part, segments=tuple(those))

    return tuple(replace(one, parts=tuple(map(filled, one.parts))) for one in sequences)


def made_sequences(ddls: Sequence[Ddl]) -> set[Name]:
    """The names of all sequences that statements made."""
    return {name for d in ddls if d.verb == "CREATE SEQUENCE" for name in d.tables or ()}
