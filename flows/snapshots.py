"""Flow: take a snapshot. `python -m flows.snapshots --server shop` runs it here and now."""

from __future__ import annotations

import argparse
import json
from typing import Any, Literal

from prefect import flow, task
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict, Field

from flows.retries import DELAYS_S, is_retryable
from recovery import operations
from recovery.context import open_context
from recovery.plain import to_plain
from recovery.snapshot.request import SnapshotRequest


class SnapshotParameters(BaseModel):
    """What `rowback snapshot` takes as options; config and server default as they do there."""

    model_config = ConfigDict(extra="forbid")

    config: str | None = Field(None, description="Path of rowback.toml on the worker.")
    server: str | None = Field(None, description="Server section; not needed if there is one.")
    tables: list[str] = Field([], description="Patterns db.table; empty: everything that is captured.")
    databases: list[str] = Field([], description="Whole databases.")
    exclude: list[str] = Field([], description="Patterns db.table to leave out.")
    threads: int = Field(4, ge=1, le=64, description="Parallel connections of mydumper.")
    lock: Literal["auto", "brief", "none"] = Field("auto", description="How coordinates are taken.")


@task(name="snapshot", retries=len(DELAYS_S), retry_delay_seconds=DELAYS_S, retry_condition_fn=is_retryable)
def snapshot(parameters: SnapshotParameters) -> dict[str, Any]:
    """The operation; its result as plain data. Tried again only after an error that may pass by itself."""
    request = SnapshotRequest(
        tables=tuple(parameters.tables),
        databases=tuple(parameters.databases),
        exclude=tuple(parameters.exclude),
        threads=parameters.threads,
        lock=parameters.lock,
    )
    result = operations.snapshot(open_context(parameters.config, parameters.server), request)
    facts = {"snapshot_id": result.snapshot.snapshot_id, "path": result.snapshot.path, "mode": result.snapshot.mode}
    sizes = {"tables": len(result.snapshot.baselines), "rows": result.rows, "size_bytes": result.snapshot.size_bytes}
    plain: dict[str, Any] = to_plain({**facts, **sizes, "duration_s": result.duration_s, "warnings": result.warnings})
    return plain


@flow(name="take-snapshot")
def take_snapshot(parameters: SnapshotParameters | None = None) -> dict[str, Any]:
    """Take a full snapshot of one server and add it to its archive."""
    result = snapshot(parameters or SnapshotParameters())
    get_run_logger().info("snapshot %s: %s tables, %s rows", result["snapshot_id"], result["tables"], result["rows"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.snapshots", description=__doc__)
    parser.add_argument("--config")
    parser.add_argument("--server")
    parser.add_argument("--tables", action="append", default=[])
    parser.add_argument("--databases", action="append", default=[])
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--lock", choices=("auto", "brief", "none"), default="auto")
    print(json.dumps(take_snapshot(SnapshotParameters(**vars(parser.parse_args()))), indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
