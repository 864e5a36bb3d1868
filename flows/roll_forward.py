"""Flow: roll a baseline forward. `python -m flows.roll_forward --server shop` runs it here and now."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict, Field

from flows.retries import DELAYS_S, is_retryable
from recovery import operations
from recovery.context import open_context
from recovery.plain import to_plain
from recovery.roll_forward import RollForwardRequest
from recovery.scope import of_databases
from recovery.sizes import parse_memory


class RollForwardParameters(BaseModel):
    """What `rowback roll-forward` takes as options; config and server default as they do there."""

    model_config = ConfigDict(extra="forbid")

    config: str | None = Field(None, description="Path of rowback.toml on the worker.")
    server: str | None = Field(None, description="Server section; not needed if there is one.")
    to: str = Field("latest", description="A time, a GTID, FILE:POSITION or latest.")
    tables: list[str] = Field([], description="Patterns db.table; empty: every table.")
    databases: list[str] = Field([], description="Whole databases, with those tables.")
    exclude: list[str] = Field([], description="Patterns db.table to leave out.")
    memory: str = Field("1GiB", description="What the merge may use before it spills to the disk.")
    scratch: str | None = Field(None, description="Folder on the worker for copies and spilled data; else its TMPDIR.")


@task(name="roll-forward", retries=len(DELAYS_S), retry_delay_seconds=DELAYS_S, retry_condition_fn=is_retryable)
def roll_forward(parameters: RollForwardParameters) -> dict[str, Any]:
    """The operation; its result as plain data. Tried again only after an error that may pass by itself."""
    request = RollForwardRequest(
        to=parameters.to,
        tables=(*parameters.tables, *of_databases(parameters.databases)),
        exclude=tuple(parameters.exclude),
        memory_limit_bytes=parse_memory(parameters.memory),
        scratch_dir=Path(parameters.scratch) if parameters.scratch else None,
    )
    result = operations.roll_forward(open_context(parameters.config, parameters.server), request)
    made = result.snapshot
    assert made is not None
    assert made.synthetic is not None
    facts = {"snapshot_id": made.snapshot_id, "seq": made.synthetic.seq, "sources": made.synthetic.sources}
    sizes = {"tables": len(made.baselines), "rows": result.rows, "size_bytes": made.size_bytes}
    plain: dict[str, Any] = to_plain({**facts, **sizes, "duration_s": result.duration_s, "warnings": result.warnings})
    return plain


@flow(name="roll-forward")
def roll_baseline_forward(parameters: RollForwardParameters | None = None) -> dict[str, Any]:
    """Make a new baseline of one server from its archive alone."""
    result = roll_forward(parameters or RollForwardParameters())
    get_run_logger().info("snapshot %s: %s tables, %s rows", result["snapshot_id"], result["tables"], result["rows"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.roll_forward", description=__doc__)
    parser.add_argument("--config")
    parser.add_argument("--server")
    parser.add_argument("--to", default="latest")
    parser.add_argument("--tables", action="append", default=[])
    parser.add_argument("--databases", action="append", default=[])
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--scratch")
    result = roll_baseline_forward(RollForwardParameters(**vars(parser.parse_args())))
    print(json.dumps(result, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
