"""Flows that give data back: restore into a directory, and undo with the SQL as an artifact. Neither touches a server.

`python -m flows.replay restore --to latest --output restored` and `python -m flows.replay undo --table shop.orders
--since "2026-05-02 10:00:00"` run them here and now.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, ConfigDict, Field

from flows.retries import DELAYS_S, is_retryable
from recovery import operations
from recovery.changes import ChangeQuery
from recovery.context import open_context
from recovery.output.options import OutputOptions
from recovery.plain import to_plain
from recovery.render import restore_document
from recovery.restore import RestoreRequest
from recovery.scope import of_databases
from recovery.sizes import parse_memory, parse_size
from recovery.undo_script import script_sql

ARTIFACT_MAX_CHARACTERS = 1_000_000  # an artifact is a row in Prefect's database


class RestoreParameters(BaseModel):
    """What `rowback restore` takes as options."""

    model_config = ConfigDict(extra="forbid")

    config: str | None = Field(None, description="Path of rowback.toml on the worker.")
    server: str | None = Field(None, description="Server section; not needed if there is one.")
    to: str = Field(description="A time (UTC unless it has a zone), a GTID, FILE:POSITION or latest.")
    tables: list[str] = Field([], description="Patterns db.table; empty: all.")
    databases: list[str] = Field([], description="Whole databases, with those tables.")
    exclude: list[str] = Field([], description="Patterns db.table to leave out.")
    rename: list[str] = Field([], description="Other names in the output: old=new, db.old=db.new.")
    events_disabled: bool = Field(False, description="Create events DISABLED, however they were.")
    leave_out: list[str] = Field([], description="Transactions to leave out: GTIDs or FILE:POSITION.")
    except_conflicts: Literal["refuse", "keep-later", "drop-later"] = Field(
        "refuse", description="Later changes that can't be without them."
    )
    output: str | None = Field(None, description="New or empty folder on the worker.")
    dry_run: bool = Field(False, description="Only plan.")
    format: str = Field("mydumper", description="mydumper, parquet, csv or sql.")
    compress: str = Field("", description="none, gzip or zstd; empty: what the format is used to.")
    statement_size: str = Field("1MB", description="An INSERT's bytes.")
    rows_per_file: int | None = Field(None, ge=1, description="Start a table's next file after so many rows.")
    memory: str = Field("1GiB", description="What the merge may use before it spills to the disk.")
    scratch: str | None = Field(None, description="Folder on the worker for copies and spilled data; else its TMPDIR.")
    resume: bool = Field(False, description="Go on with what an interrupted run left in the folder.")


class UndoParameters(BaseModel):
    """What `rowback undo` takes as options."""

    model_config = ConfigDict(extra="forbid")

    config: str | None = Field(None, description="Path of rowback.toml on the worker.")
    server: str | None = Field(None, description="Server section; not needed if there is one.")
    table: str = Field(description="db.table")
    key: str | None = Field(None, description="Primary key of one row; several columns separated by commas.")
    since: str | None = Field(None, description="Time (UTC unless it has a zone) or GTID.")
    until: str | None = Field(None, description="Time or GTID, inclusive.")
    ops: list[str] = Field([], description="insert, update, delete; empty: all.")
    transactions: list[str] = Field([], description="GTIDs; empty: all.")
    limit: int | None = Field(None, ge=1, description="At most so many changes, newest first.")


@task(name="restore", retries=len(DELAYS_S), retry_delay_seconds=DELAYS_S, retry_condition_fn=is_retryable)
def write_restore(parameters: RestoreParameters) -> dict[str, Any]:
    output = Path(parameters.output) if parameters.output else None
    options = OutputOptions(
        parameters.format,
        parameters.compress,
        statement_bytes=parse_size("statement_size", parameters.statement_size),
        rows_per_file=parameters.rows_per_file,
    )
    request = RestoreRequest(
        parameters.to,
        (*parameters.tables, *of_databases(parameters.databases)),
        output,
        parameters.dry_run,
        memory_limit_bytes=parse_memory(parameters.memory),
        scratch_dir=Path(parameters.scratch) if parameters.scratch else None,
        options=options,
        resume=parameters.resume,
        exclude=tuple(parameters.exclude),
        leave_out=tuple(parameters.leave_out),
        except_conflicts=parameters.except_conflicts,
        rename=tuple(parameters.rename),
        events_disabled=parameters.events_disabled,
    )
    result = operations.restore(open_context(parameters.config, parameters.server), request)
    plain: dict[str, Any] = to_plain(restore_document(result))
    return plain


@task(name="undo", retries=len(DELAYS_S), retry_delay_seconds=DELAYS_S, retry_condition_fn=is_retryable)
def build_undo(parameters: UndoParameters) -> dict[str, Any]:
    query = ChangeQuery(
        table=("", ""),
        key=parameters.key,
        since=parameters.since,
        until=parameters.until,
        ops=tuple(parameters.ops),
        transactions=tuple(parameters.transactions),
        limit=parameters.limit,
    )
    script = operations.undo(open_context(parameters.config, parameters.server), parameters.table, query)
    facts = {"table": parameters.table, "changes": script.summary.changes, "conflicts": len(script.conflicts)}
    return {**facts, "warnings": list(script.warnings), "sql": script_sql(script)}


@flow(name="restore")
def restore(parameters: RestoreParameters) -> dict[str, Any]:
    """Write tables as they were at the end of a transaction as a dump directory on the worker."""
    return write_restore(parameters)


@flow(name="undo")
def undo(parameters: UndoParameters) -> dict[str, Any]:
    """Build the SQL that takes changes back; it is the run's artifact and never applied."""
    result = build_undo(parameters)
    create_markdown_artifact(markdown(result), key="undo-sql", description=f"Undo of {parameters.table}")
    return result


def markdown(result: dict[str, Any]) -> str:
    """The artifact: what is taken back, the warnings, and the whole script or where to get it; never a part of it."""
    lines = [
        f"# Undo of `{result['table']}`",
        "",
        f"{result['changes']} changes are taken back. Review before applying.",
    ]
    if result["conflicts"]:
        lines += ["", f"**{result['conflicts']} of these rows changed again later**; the script's head names them."]
    lines += ["", *(f"- {warning}" for warning in result["warnings"])]
    if len(result["sql"]) > ARTIFACT_MAX_CHARACTERS:
        return "\n".join(
            [*lines, "", "The script is too long for an artifact: get it with `rowback undo --output FILE`."]
        )
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", result["sql"])), default=0))
    return "\n".join([*lines, "", f"{fence}sql", result["sql"], fence, ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.replay", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, model in (("restore", RestoreParameters), ("undo", UndoParameters)):
        options = verbs.add_parser(verb)
        for name, field in model.model_fields.items():
            option = "--" + name.replace("_", "-")
            if field.annotation is bool:
                options.add_argument(option, action="store_true")
            elif field.annotation == list[str]:
                options.add_argument(option, action="append", default=[])
            else:
                options.add_argument(option, required=field.is_required())
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    verb = given.pop("verb")
    result = restore(RestoreParameters(**given)) if verb == "restore" else undo(UndoParameters(**given))
    print(json.dumps(result, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
