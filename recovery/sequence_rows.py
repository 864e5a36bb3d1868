"""The row images of MariaDB's sequences, read from their change segments (recovery/objects/sequences.py says which)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from recovery.archive.segments import DELETE, UPDATE_BEFORE, read_segment
from recovery.archive.store import Store
from recovery.objects.sequences import COLUMNS, LiveSequence, Made, Row, Stretch, made
from recovery.restore_plan import RestorePlan


def made_from(store: Store, sequences: Iterable[LiveSequence]) -> list[tuple[LiveSequence, Made]]:
    """How to make each of them. Raises ArchiveDamaged and StoreError."""
    return [(one, made(one, {part: _images(store, part) for part in one.stretches})) for one in sequences]


def with_sequences(store: Store, plan: RestorePlan) -> tuple[RestorePlan, dict[str, list[str]]]:
    """The plan with what the images say of its sequences as warnings, and what makes those of each database. Raises
    ArchiveDamaged and StoreError."""
    made = made_from(store, plan.objects.sequences)
    found: dict[str, list[str]] = {}
    for one, how in made:
        found.setdefault(one.db, []).extend(how.statements)
    notes = [put_back(one) for one, how in made if how.set_back]
    return replace(plan, warnings=(*plan.warnings, *notes)), found


def put_back(one: LiveSequence) -> str:
    """A warning for a sequence that was set back."""
    return (
        f"{one.label} was set back by INSERT or REPLACE, or values were logged late: it goes on behind its furthest value, "
        "so that none is given twice; set it by hand where lower ones are wanted"
    )


def _images(store: Store, stretch: Stretch) -> list[Row]:
    """In the order in which they were logged."""
    found: list[tuple[int, int, Row]] = []
    for segment in stretch.segments:
        data = read_segment(store, segment, ["_rb_op", "_rb_seq", "_rb_ordinal", *COLUMNS])
        for op, seq, ordinal, *row in zip(*(column.to_pylist() for column in data.columns), strict=True):
            if stretch.low_seq < seq <= stretch.high_seq and op not in (UPDATE_BEFORE, DELETE):
                found.append((seq, ordinal, tuple(map(int, row))))
    return [row for _, _, row in sorted(found)]
