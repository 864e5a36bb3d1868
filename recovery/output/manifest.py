"""rowback-manifest.json: what an output directory holds, written last (docs/FORMAT.md). And check.mysql, which compares what
was loaded with it by each table's digest, on the server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from recovery.archive.state import ArchiveState
from recovery.literals import DIALECT, string
from recovery.objects.files import objects_manifest
from recovery.output.files import TableFiles, described
from recovery.output.journal import NAME as JOURNAL
from recovery.output.options import OutputOptions
from recovery.restore_plan import RestorePlan
from recovery.target import coverage, format_us

NAME: Final = "rowback-manifest.json"
CHECK: Final = "check.mysql"


def manifest(
    state: ArchiveState, plan: RestorePlan, options: OutputOptions, tables: Sequence[TableFiles], directory: Path
) -> dict[str, Any]:
    """Plain data. All other files of the directory are there already."""
    start, newest = coverage(state)
    planned = {(t.db, t.table): t for t in plan.tables}
    used = {t.snapshot_id for t in plan.tables}
    listed = []
    for files in tables:
        table = planned[files.db, files.table]
        marks = {"snapshot_id": table.snapshot_id, "low_seq": table.low_seq, "high_seq": table.high_seq}
        listed.append({**files.to_json(), "snapshot": marks})
    return {
        "format": 2,
        "target": plan.target,
        "cut": asdict(plan.cut),
        "options": options.to_json(),
        "snapshots": [
            {"snapshot_id": s.snapshot_id, "mode": s.mode, "low": asdict(s.low), "high": asdict(s.high)}
            for s in state.snapshots
            if s.snapshot_id in used
        ],
        "coverage": {
            "from": format_us(start.covered_to_us),
            "from_position": f"{start.file}:{start.position}",
            "to": format_us(newest.covered_to_us),
            "to_position": f"{newest.file}:{newest.position}",
            "gtid_set": newest.gtid_set,
        },
        "warnings": list(plan.warnings),
        "tables": listed,
        **objects_manifest(plan.objects),
        "files": _others(directory, tables),
    }


def _others(directory: Path, tables: Sequence[TableFiles]) -> list[dict[str, Any]]:
    """Every file that belongs to no table."""
    named = {f.name for t in tables for f in (*t.files, *t.definition)} | {JOURNAL, NAME}
    paths = sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())
    return [described(directory, name).to_json() for name in paths if name not in named]


def write(directory: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=2)
    (directory / NAME).write_text(text + "\n", encoding="utf-8", newline="")


def check_script(tables: Sequence[TableFiles]) -> str:
    """For the plain client, on the server that the restore was loaded into."""
    lines = [
        "-- What was loaded against what was restored: mysql < check.mysql prints `same` or `DIFFERENT` for each table.",
        "SET NAMES utf8mb4;",
        "SET SESSION time_zone = '+00:00', sql_mode = '';",
        "SET @rowback_same = 1;",
    ]
    for t in tables:
        name = string(f"{t.db}.{t.table}").sql(dialect=DIALECT)
        lines.append(f"SET @rowback_one = (({t.digest_sql}) <=> '{t.digest}');")
        lines.append("SET @rowback_same = @rowback_same AND @rowback_one;")
        lines.append(f"SELECT IF(@rowback_one, 'same', 'DIFFERENT') AS outcome, {name} AS name;")
    # A table that isn't there: the client then ends with an error. SIGNAL can't be prepared.
    lines += [
        "SET @rowback_sql = IF(@rowback_same, 'DO 0', 'SELECT 1 FROM `information_schema`.`rowback: rows differ`');",
        "PREPARE rowback_end FROM @rowback_sql;",
        "DEALLOCATE PREPARE rowback_end;",
    ]
    return "\n".join(lines) + "\n"
