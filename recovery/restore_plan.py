"""What the plan of a restore is: data, for the executor to walk and for a person to read. recovery/plan.py makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from recovery.archive.actions import DataObject, Segment
from recovery.cost import Cost, TableCost, cost_of
from recovery.derive_plan import Derivation
from recovery.except_report import Exclusion
from recovery.except_rows import Undone
from recovery.lineage import Lineage
from recovery.objects.plan import ObjectPlan
from recovery.scope import TableName, label
from recovery.stages import Staged
from recovery.target import Cut, format_us


@dataclass(frozen=True)
class TablePlan:
    """One table, under its name at the cut.

    origin: its name in the snapshot; None if it was created or emptied since. schema: the statements that create it, CREATE
    TABLE and the DDL behind it. staged: its rows, through its definitions. lineage: what both were made from.
    """

    db: str
    table: str
    snapshot_id: str
    low_seq: int
    high_seq: int
    origin: TableName | None
    schema: tuple[str, ...]
    staged: Staged
    baseline_rows: int
    objects: tuple[DataObject, ...]
    # Of transactions left out: stage number -> images that go with the stage's own (recovery/except_fold.py); the rows that
    # are otherwise in the end; their seqs.
    corrections: Mapping[int, Any] = field(default_factory=dict, compare=False, repr=False)
    undone: tuple[Undone, ...] = field(default=(), compare=False, repr=False)
    left_out: tuple[int, ...] = ()
    lineage: Lineage | None = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        return f"{self.db}.{self.table}"

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(dict.fromkeys(s for stage in self.staged.stages for s in stage.segments))

    @property
    def change_rows(self) -> int:
        return sum(s.rows for s in self.segments)

    @property
    def size_bytes(self) -> int:
        return sum(o.size_bytes for o in self.objects) + sum(s.size_bytes for s in self.segments)

    def begins(self) -> str:
        """What its rows begin with, for a person."""
        if self.origin is None:
            return f"created or emptied after snapshot {self.snapshot_id}"
        was = "" if self.origin == (self.db, self.table) else f" (there `{label(self.origin)}`)"
        return f"{self.baseline_rows} rows of snapshot {self.snapshot_id}{was}"

    def through(self) -> str:
        steps = sum(not text.startswith("RENAME TABLE") for text in self.schema[1:])
        return f", through {steps} DDL statement{'s' if steps > 1 else ''}" if steps else ""


@dataclass(frozen=True)
class RestorePlan:
    """target: as the user wrote it. databases: (name, CREATE DATABASE statement) of each database in the plan. derivations:
    what unlogged foreign keys did, to be worked out from their parents' changes."""

    target: str
    cut: Cut
    databases: tuple[tuple[str, str], ...]
    tables: tuple[TablePlan, ...]
    warnings: tuple[str, ...] = ()
    derivations: tuple[Derivation, ...] = ()
    exclusion: Exclusion | None = None
    objects: ObjectPlan = field(default_factory=ObjectPlan)

    @property
    def size_bytes(self) -> int:
        others = [*(d.size_bytes for d in self.derivations), *(s.size_bytes for s in self.objects.segments)]
        return sum(t.size_bytes for t in self.tables) + sum(others)

    @property
    def largest_bytes(self) -> int:
        """Of the copies that are held at a time: of one table, and of what is derived."""
        return max((t.size_bytes for t in self.tables), default=0) + sum(d.size_bytes for d in self.derivations)

    @property
    def cost(self) -> Cost:
        return cost_of(
            (TableCost(t.baseline_rows, t.change_rows, t.size_bytes) for t in self.tables),
            sum(d.size_bytes for d in self.derivations),
            sum(s.size_bytes for s in self.objects.segments),
        )

    def describe_cut(self) -> str:
        """Where and when the restored state ends, whatever the target was."""
        cut = self.cut
        gtid = f", GTID {cut.gtid}" if cut.gtid else ""
        where = f"cut at the end of transaction {cut.seq} ({cut.file}:{cut.position}{gtid})"
        return f"{where}, {format_us(cut.cut_at_us)}"

    def explain(self) -> list[str]:
        """Lines for a person: the cut, each table with its snapshot and changes, the totals, the warnings."""
        lines = [f"target {self.target}", self.describe_cut()]
        lines.extend(
            f"table {t.label}: {t.begins()}, then {t.change_rows} row images of {len(t.segments)} segments, transactions "
            f"{t.low_seq + 1} to {self.cut.seq}{t.through()} ({t.size_bytes} bytes to read)"
            for t in self.tables
        )
        lines.extend(
            f"what foreign keys did to {', '.join(label(c) for c in sorted(d.children))} without the server logging it is "
            f"derived from {len(d.tables)} tables, transactions {d.low_seq + 1} to {d.high_seq} "
            f"({d.size_bytes} bytes to read)"
            for d in self.derivations
        )
        lines.append(f"{len(self.tables)} tables, {self.size_bytes} bytes to read")
        lines.append(self.cost.line())
        lines.extend(self.exclusion.explain() if self.exclusion else ())
        if self.objects.counts():
            lines.append(f"with {self.objects.counts()}, as they were then")
        lines.extend(f"warning: {text}" for text in self.warnings)
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain data, the same facts as `explain`, with every object's name."""
        return {
            "format": 1,
            "target": self.target,
            "cut": asdict(self.cut),
            "cost": asdict(self.cost),
            "tables": [
                {
                    "db": t.db,
                    "table": t.table,
                    "snapshot_id": t.snapshot_id,
                    "low_seq": t.low_seq,
                    "high_seq": t.high_seq,
                    "origin": None if t.origin is None else label(t.origin),
                    "schema": list(t.schema),
                    "baseline_rows": t.baseline_rows,
                    "change_rows": t.change_rows,
                    "size_bytes": t.size_bytes,
                    "objects": [o.path for o in t.objects] + [s.path for s in t.segments],
                }
                for t in self.tables
            ],
            "derived": [
                {
                    "snapshot_id": d.snapshot_id,
                    "low_seq": d.low_seq,
                    "high_seq": d.high_seq,
                    "children": [label(c) for c in sorted(d.children)],
                    "objects": [path for t in d.tables for path in t.paths],
                }
                for d in self.derivations
            ],
            "except": None if self.exclusion is None else asdict(self.exclusion),
            "objects": self.objects.listed(),
            "left_out": [
                {"type": o.type, "db": o.db, "name": o.name, "reason": o.reason} for o in self.objects.left_out
            ],
            "warnings": list(self.warnings),
        }
