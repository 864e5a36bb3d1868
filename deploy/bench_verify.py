"""Whether the measured archive is right: `python deploy/bench_verify.py ARCHIVE FACTS`, both as paths.

Reads every object that the log names with pyarrow and DuckDB alone, none of Rowback's code. Counts row changes by operation
and transactions against what the server said while the workload ran, then folds each table to its last image per key and
compares row count and sums with what the server's tables held. Prints one JSON line; exit status 1 if anything differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import duckdb

from bench_load import KEYS, SUMS


def actions(archive: Path) -> list[dict[str, Any]]:
    """All actions of the archive's only log, in order."""
    logs = sorted(archive.glob("*/*/log/*.json"))
    return [action for path in logs for action in json.loads(path.read_text(encoding="utf-8"))["actions"]]


def verify(archive: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Differences by what they are about (empty: none), and the bytes of the archive by kind of object."""
    named = actions(archive)
    segments = [a for a in named if a["action"] == "segment"]
    kept = [a for a in named if a["action"] == "transactions"]
    different: dict[str, Any] = {}
    transactions = sum(a["rows"] for a in kept)
    # Statements such as CREATE TABLE are transactions too.
    statements = len({a["seq"] for a in named if a["action"] == "ddl"})
    if transactions - statements != facts["transactions"]:
        different["transactions"] = [facts["transactions"], transactions - statements]
    for table, expected in facts["changes"].items():
        files = [str(archive / a["path"]) for a in segments if a["table"] == table]
        if not files:
            if any(expected.values()):
                different[table] = [expected, None]
            continue
        found = _counted(files)
        if found != expected:
            different[f"{table} changes"] = [expected, found]
        final = _final(files, table)
        if final != facts["final"][table]:
            different[f"{table} rows"] = [facts["final"][table], final]
    return {
        "different": different,
        "changes_bytes": sum(a["size_bytes"] for a in segments),
        "transactions_bytes": sum(a["size_bytes"] for a in kept),
        "segments": len(segments),
    }


def _counted(files: list[str]) -> dict[str, int]:
    rows = duckdb.execute(
        "SELECT _rb_op, count(*) FROM read_parquet($files, hive_partitioning = false) GROUP BY ALL", {"files": files}
    ).fetchall()
    by_op = dict(rows)
    if by_op.get("update_before", 0) != by_op.get("update_after", 0):
        by_op["update_after"] = -1
    return {
        "insert": by_op.get("insert", 0),
        "update": by_op.get("update_after", 0),
        "delete": by_op.get("delete", 0),
    }


def _final(files: list[str], table: str) -> list[str]:
    """The query of FORMAT.md, "A table as it was after a transaction", from an empty baseline; keys don't change here."""
    sums = ", ".join(("count(*)", *SUMS[table])).replace("char_length", "length")
    query = f"""
        WITH last_images AS (
            SELECT * FROM read_parquet($files, hive_partitioning = false)
            QUALIFY row_number() OVER (PARTITION BY {KEYS[table]} ORDER BY _rb_seq DESC, _rb_ordinal DESC,
                                       (_rb_op IN ('insert', 'update_after')) DESC) = 1)
        SELECT {sums} FROM last_images WHERE _rb_op IN ('insert', 'update_after')"""
    row = duckdb.execute(query, {"files": files}).fetchone()
    assert row is not None
    return [str(value) for value in row]


def main() -> int:
    archive, facts = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    duckdb.execute("SET memory_limit = '2GB'")
    result = verify(archive, facts)
    print(json.dumps(result))
    return 1 if result["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
